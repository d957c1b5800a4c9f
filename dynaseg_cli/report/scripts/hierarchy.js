// Hierarchy: the regions of a thumbnail, cut at any granularity

class Hierarchy {
  static async of(entry) {
    const packed = {
      runs: Uint16Array,
      fragments: Uint32Array,
      colors: Uint8Array,
      areas: Uint32Array,
      joins: Uint32Array,
      steps: Uint8Array,
    };
    const made = new Hierarchy();
    for (const [name, Type] of Object.entries(packed)) made[name] = await unpacked(entry[name], Type);
    const { width, height, regions, start } = entry;
    return Object.assign(made, { width, height, regions, start, map: spreadOut(made.runs, made.fragments, width * height) });
  }

  /** The region of each fragment, named by one of its fragments, when cut at a step. */
  groups(step) {
    const parent = Uint32Array.from(this.areas, (_, index) => index);
    const root = (at) => {
      while (parent[at] !== at) at = parent[at] = parent[parent[at]];
      return at;
    };
    for (let join = 0; join < this.steps.length && this.steps[join] >= step; join += 1) {
      parent[root(this.joins[2 * join])] = root(this.joins[2 * join + 1]);
    }
    return parent.map((_, index) => root(index));
  }

  /** The mean colour of each region, at the fragment that names it: RGBA. */
  means(groups) {
    const sums = new Float64Array(4 * groups.length);
    groups.forEach((group, index) => {
      const area = this.areas[index];
      for (let channel = 0; channel < 3; channel += 1) sums[4 * group + channel] += area * this.colors[3 * index + channel];
      sums[4 * group + 3] += area;
    });
    return Uint8ClampedArray.from(sums, (sum, index) => (index % 4 === 3 ? 255 : sum / (sums[index | 3] || 1)));
  }

  /** Each region in its mean colour, with lines between that pale where there are so many that they would hide it. */
  draw(canvas, step) {
    const { width, height, map } = this;
    const groups = this.groups(step);
    const means = this.means(groups);
    const image = new ImageData(width, height);
    const lines = [];
    for (let at = 0; at < map.length; at += 1) {
      const group = groups[map[at]];
      for (let channel = 0; channel < 4; channel += 1) image.data[4 * at + channel] = means[4 * group + channel];
      const across = (at + 1) % width && groups[map[at + 1]] !== group;
      const down = at + width < map.length && groups[map[at + width]] !== group;
      if (across || down) lines.push(at);
    }
    const strength = Math.max(0, 1 - (3 * lines.length) / map.length);
    for (const at of lines) {
      for (let channel = 0; channel < 3; channel += 1) {
        image.data[4 * at + channel] += (255 - image.data[4 * at + channel]) * strength;
      }
    }
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
}

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
