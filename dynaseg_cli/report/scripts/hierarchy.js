// The regions of a thumbnail, cut into any number, and the slider that chooses it

const FINER = 1.05; // times as many regions at each step of the slider, where that is more than one

class Hierarchy {
  static async of(entry) {
    const packed = {
      runs: Uint16Array,
      fragments: Uint32Array,
      colors: Uint8Array,
      areas: Uint32Array,
      joins: Uint32Array,
      left: Uint32Array,
    };
    const made = new Hierarchy();
    for (const [name, Type] of Object.entries(packed)) made[name] = await unpacked(entry[name], Type);
    const { width, height, most, regions, start } = entry;
    const map = spreadOut(made.runs, made.fragments, width * height);
    return Object.assign(made, { width, height, map, start, granularities: regions, counts: offeredCounts(most, start) });
  }

  /** The place on the slider that is nearest to a number of regions. */
  placeOf(count) {
    const above = this.counts.findIndex((each) => each >= count);
    if (above < 0) return this.counts.length - 1;
    return above > 0 && count - this.counts[above - 1] < this.counts[above] - count ? above - 1 : above;
  }

  /** The options that cut the photo into so many regions; of several granularities, the one nearest to that of auto. */
  options(count) {
    const last = this.granularities.length - 1;
    const steps = this.granularities.flatMap((each, step) => (each === count ? [step] : []));
    const [nearest] = steps.sort((one, other) => Math.abs(one - last / 2) - Math.abs(other - last / 2));
    return `--regions ${count}${nearest === undefined ? "" : ` or --granularity ${nearest / last}`}`;
  }

  /** The region of each fragment, named by one of its fragments, where the photo has so many. */
  groups(count) {
    const parent = Uint32Array.from(this.areas, (_, index) => index);
    const root = (at) => {
      while (parent[at] !== at) at = parent[at] = parent[parent[at]];
      return at;
    };
    for (let join = 0; join < this.left.length && this.left[join] >= count; join += 1) {
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
  draw(canvas, count) {
    const { width, height, map } = this;
    const groups = this.groups(count);
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

/** Numbers of regions from one to the most, that of the cut among them: by one, then by a factor. */
function offeredCounts(most, start) {
  const counts = [1];
  while (counts.at(-1) < most) counts.push(Math.min(most, Math.max(counts.at(-1) + 1, Math.round(counts.at(-1) * FINER))));
  return [...new Set([...counts, start])].sort((one, other) => one - other);
}
