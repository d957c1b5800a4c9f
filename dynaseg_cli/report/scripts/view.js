// A photo and a layer over it, clipped at a split: in each card, and large in the details

const GIVE_UP = 6; // pictures that fail, with none that came, before no more are asked for
const LAYERS = { labels: "labels", regions: "regions", overlay: "overlay", granularity: "regions at any granularity" };

class View {
  /** `onClick` is told where in the picture it was clicked, in shares of width and height. */
  constructor(onClick) {
    this.root = byId("view-template").content.cloneNode(true).querySelector(".view");
    [this.tile, this.slider] = this.root.children;
    this.frame = this.tile.firstElementChild;
    [this.photo, this.over, this.lit, , this.missing] = this.frame.children;
    [this.layer, this.canvas] = this.over.children;
    this.slider.addEventListener("input", () => this.split(this.slider.value));
    for (const picture of [this.photo, this.layer]) {
      picture.addEventListener("load", () => pictures.came());
      picture.addEventListener("error", () => this.lose());
    }
    [this.scale, this.x, this.y] = [1, 0, 0]; // of the picture, and where its corner is in shares of the frame
    this.scrub(onClick);
  }

  show(row, layer, lazily) {
    this.row = row;
    const [wide, high] = [row.width, row.height];
    this.root.style.setProperty("--ratio", wide / high);
    this.frame.classList.toggle("small", Math.max(wide, high) < 200);
    this.frame.classList.remove("lost");
    this.missing.hidden = true;
    for (const picture of [this.photo, this.layer]) {
      picture.loading = lazily ? "lazy" : "eager";
      picture.removeAttribute("src");
      picture.width = wide;
      picture.height = high;
    }
    this.photo.alt = row.name;
    if (pictures.givenUp) this.lose();
    else if (!row.other) this.photo.src = `${row.files}-photo.webp`;
    this.against(layer);
  }

  against(layer) {
    this.layerName = layer;
    const cutting = layer === "granularity";
    this.layer.hidden = cutting;
    this.canvas.hidden = !cutting;
    const { name, files, other } = this.row;
    if (!cutting && !this.lost) this.layer.src = `${other ? other.files : files}-${layer}.webp`;
    if (other && !this.lost) this.photo.src = `${files}-${layer}.webp`;
    const [left, right] = other ? SIDES.map((side) => `${LAYERS[layer]} in ${side}`) : ["photo", LAYERS[layer]];
    this.slider.setAttribute("aria-label", `${name}: ${left} to the left of the split, ${right} to the right`);
  }

  split(value) {
    this.slider.value = value;
    this.root.style.setProperty("--split", `${this.slider.value}%`);
    this.slider.setAttribute("aria-valuetext", `${Math.round(this.slider.value)} % ${SIDES ? SIDES[0] : "photo"}`);
  }

  get lost() {
    return this.frame.classList.contains("lost");
  }

  lose() {
    if (this.lost) return;
    this.frame.classList.add("lost");
    this.missing.hidden = false;
    this.missing.textContent = "The pictures of this image are missing.";
    for (const picture of [this.photo, this.layer]) picture.removeAttribute("src"); // one that is gone asks for no other
    pictures.failed();
  }

  /** Where in the frame a pointer is, in shares of its width and height. */
  shareOf({ clientX, clientY }) {
    const box = this.frame.getBoundingClientRect();
    return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
  }

  /** The place in the picture that a pointer is at, in shares of its width and height. */
  placeOf(pointer) {
    const { x, y } = this.shareOf(pointer);
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  /** Magnify the picture so that what is at a place of the frame stays there. */
  zoom(scale, { x, y }) {
    const factor = scale / this.scale;
    this.scale = scale;
    this.moveTo(x - (x - this.x) * factor, y - (y - this.y) * factor);
  }

  moveTo(x, y) {
    const inside = (offset) => Math.min(0, Math.max(1 - this.scale, offset));
    [this.x, this.y] = [inside(x), inside(y)];
    this.frame.classList.toggle("zoomed", this.scale > 1);
    this.frame.style.setProperty("--zoom", this.scale);
    this.frame.style.setProperty("--x", `${this.x * 100}%`);
    this.frame.style.setProperty("--y", `${this.y * 100}%`);
  }

  /** A drag moves the split, or the picture where it is magnified. */
  scrub(onClick) {
    let from = null;
    let moved = false;
    this.frame.addEventListener("pointerdown", (event) => {
      [from, moved] = [event.button === 0 && event.isPrimary ? event : null, false];
      if (from) this.frame.setPointerCapture(event.pointerId);
    });
    this.frame.addEventListener("pointermove", (event) => {
      if (from === null || !event.isPrimary) return;
      if (!moved && Math.hypot(event.clientX - from.clientX, event.clientY - from.clientY) < 5) return;
      moved = true;
      const [before, now] = [this.shareOf(from), this.shareOf(event)];
      if (this.scale > 1) this.moveTo(this.x + now.x - before.x, this.y + now.y - before.y);
      else this.split(now.x * 100);
      from = event;
    });
    for (const end of ["pointerup", "pointercancel"]) this.frame.addEventListener(end, () => { from = null; });
    this.frame.addEventListener("click", (event) => {
      if (!moved) onClick(this.placeOf(event));
      moved = false;
    });
  }
}

const pictures = {
  any: false,
  lacking: 0,
  givenUp: false,
  came() {
    this.any = true;
  },
  failed() {
    this.lacking += 1;
    if (this.any || this.givenUp || this.lacking < GIVE_UP) return;
    this.givenUp = true;
    const folder = rows[0].files.split("/")[0];
    const told = `No picture is found. They are in the folder ${folder}, which has to lie beside this page.`;
    byId("no-pictures").textContent = told;
    byId("no-pictures").hidden = false;
  },
};
