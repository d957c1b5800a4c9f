// The labels of a thumbnail: which one a pixel has, and where in the photo one is

const SHADE = [12, 14, 18, 165]; // over all that is not lit: red, green, blue, opacity
const OUTLINE = [255, 255, 255, 255];

class LabelMap {
  static async of({ width, height, runs, labels }) {
    const values = spreadOut(await unpacked(runs, Uint16Array), await unpacked(labels, Uint16Array), width * height);
    return Object.assign(new LabelMap(), { width, height, values });
  }

  /** The label at a place, given as shares of width and height. */
  at({ x, y }) {
    const inside = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    return this.values[inside(y, this.height) * this.width + inside(x, this.width)];
  }

  /** Shade all but one label, with a line around it. */
  light(canvas, label) {
    const { width, height, values } = this;
    const image = new ImageData(width, height);
    for (let at = 0; at < values.length; at += 1) {
      if (values[at] === label) continue;
      const column = at % width;
      const near =
        (column > 0 && values[at - 1] === label) ||
        (column < width - 1 && values[at + 1] === label) ||
        values[at - width] === label ||
        values[at + width] === label;
      image.data.set(near ? OUTLINE : SHADE, 4 * at);
    }
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
}
