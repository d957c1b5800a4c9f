// Numbers in the script of an image: see packing.py

async function unpacked(text, Type) {
  if (!window.DecompressionStream) throw new Error("this browser is too old to unpack them");
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Type(await new Response(stream).arrayBuffer());
}

function spreadOut(runs, fragments, size) {
  const map = new Uint32Array(size);
  let at = 0;
  runs.forEach((length, index) => {
    map.fill(fragments[index], at, at + length);
    at += length;
  });
  return map;
}
