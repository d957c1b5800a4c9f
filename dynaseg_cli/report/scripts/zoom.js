// Magnifying the large picture: by buttons, keys, wheel and two fingers; then with files of full resolution, where they are

const ZOOM_STEP = 1.5;
const LARGEST_PIXEL = 8; // of the photo, on the screen
const MIDDLE = { x: 0.5, y: 0.5 };

function zoomTo(scale, at = MIDDLE) {
  const most = Math.max(4, (LARGEST_PIXEL * current.width) / large.frame.clientWidth);
  large.zoom(Math.min(most, Math.max(1, scale)), at);
  byId("zoom-in").disabled = large.scale === most;
  for (const id of ["zoom-out", "zoom-fit"]) byId(id).disabled = large.scale === 1;
  sharpen();
}

/** Replace thumbnails by the photo and the files of the layer, should they be reachable. */
function sharpen() {
  if (!details || current.other || large.scale === 1) return; // in a comparison, only thumbnails are known on both sides
  sharpenPicture(large.photo, details.photo);
  sharpenPicture(large.layer, { labels: details.files.color, overlay: details.files.overlay }[detailLayer()]);
}

async function sharpenPicture(picture, url) {
  if (!url || picture.getAttribute("src") === url) return;
  const [before, { width, height }] = [picture.src, current];
  const full = element("img", { src: url });
  try {
    await full.decode();
  } catch {
    return; // it is elsewhere by now
  }
  const isAlike = Math.abs(full.naturalWidth / full.naturalHeight / (width / height) - 1) < 0.01;
  if (picture.src === before && isAlike) picture.src = url;
}

function onWheel(event) {
  const scrolls = [...dialog.querySelectorAll(".body, .stage")].some((each) => each.scrollHeight > each.clientHeight);
  const outwards = event.deltaY > 0;
  if ((scrolls && !event.ctrlKey) || (outwards && large.scale === 1)) return;
  event.preventDefault();
  zoomTo(large.scale * Math.exp(event.deltaY * (event.ctrlKey ? -0.01 : -0.002)), large.shareOf(event));
}

function onZoomKey(event) {
  if (!dialog.open || isCommand(event) || event.target.closest("input[type=range]")) return;
  const scale = { "+": large.scale * ZOOM_STEP, "=": large.scale * ZOOM_STEP, "-": large.scale / ZOOM_STEP, 0: 1 }[event.key];
  if (scale) zoomTo(scale);
  const way = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (!way || !event.shiftKey) return;
  event.preventDefault();
  large.moveTo(large.x + way[0] * 0.2, large.y + way[1] * 0.2);
}

/** Two fingers magnify what is between them. */
function pinch(frame) {
  const fingers = new Map();
  const apart = () => {
    const [one, other] = fingers.values();
    return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch") fingers.set(event.pointerId, event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = fingers.size === 2 ? apart() : null;
    fingers.set(event.pointerId, event);
    if (!before) return;
    const [one, other] = fingers.values();
    const middle = { clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 };
    zoomTo((large.scale * apart()) / before, large.shareOf(middle));
  });
  for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, (event) => fingers.delete(event.pointerId));
}

function prepareZoom() {
  byId("zoom-in").addEventListener("click", () => zoomTo(large.scale * ZOOM_STEP));
  byId("zoom-out").addEventListener("click", () => zoomTo(large.scale / ZOOM_STEP));
  byId("zoom-fit").addEventListener("click", () => zoomTo(1));
  large.frame.addEventListener("wheel", onWheel, { passive: false });
  document.addEventListener("keydown", onZoomKey);
  pinch(large.frame);
}
