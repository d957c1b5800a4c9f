// Charts of the fit

const LOSSES = {
  Total: "What the fit makes small: similarity and continuity, each with its weight.",
  Similarity: "How far pixels are from the label that they have: the cross-entropy between the network's answer and it.",
  Continuity: "How much the network's answer differs between neighbouring pixels: little where labels form areas.",
};
const THRESHOLD = "The fit ends when no more labels than these are left, if it does not end before.";
let chartsWidth = 0;

function drawCharts() {
  const width = byId("charts").clientWidth;
  const lacking = !byId("charts").hasChildNodes();
  if (!details || !width || (width === chartsWidth && !lacking)) return;
  chartsWidth = width;
  const { fit } = details;
  if (fit.iterations === 0) {
    const none = "None: the folder's network was applied as it is.";
    byId("charts").replaceChildren(element("h3", {}, "Iterations"), element("p", {}, none));
    return;
  }
  const losses = [
    ["first", "Total", fit.loss],
    ["second", "Similarity", fit.similarity_loss],
    ["third", "Continuity", fit.continuity_loss],
  ];
  byId("charts").replaceChildren(
    ...chart("The network's labels while fitting", [["first", "Labels", fit.labels_per_iteration]], fit, width, fit.threshold),
    element("p", { class: "note" }, fateOfLabels(details)),
    ...chart("Losses while fitting", losses, fit, width, null),
  );
}

/** Why the chart ends at another number than that of the labels in the table. */
function fateOfLabels({ fit, raw_labels: raw, clusters: { length: kept } }) {
  const left = counted(fit.labels_per_iteration.at(-1), "label", "labels");
  const fitted = `The last iteration had ${left} at ${fit.width} × ${fit.height} pixels.`;
  const whole = `At the size of the photo there are ${number.format(raw)}`;
  const cut = raw === kept ? "." : `, of which ${number.format(kept)} remain once each region has one label.`;
  return `${fitted} ${whole}${cut}`;
}

function chart(title, series, fit, width, threshold) {
  const high = 190;
  const [left, right, top, bottom] = [46, 10, 18, 36];
  const count = series[0][2].length;
  const values = series.flatMap(([, , points]) => points);
  const ticks = niceTicks(Math.min(0, ...values), Math.max(...values, threshold ?? 0), 4);
  const [low, up] = [ticks[0], ticks[ticks.length - 1]];
  const x = (iteration) => left + ((width - left - right) * (iteration - 1)) / Math.max(1, count - 1);
  const y = (value) => high - bottom - ((high - top - bottom) * (value - low)) / (up - low || 1);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${high}`, height: high, role: "img", tabindex: 0 });
  svg.setAttribute("aria-label", inWords(title, series, threshold));
  for (const tick of ticks) {
    svg.append(
      drawn("line", { class: tick === 0 ? "axis" : "rule", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      drawn("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, significant(tick)),
    );
  }
  for (const tick of niceTicks(1, count, width > 300 ? 6 : 4)) {
    if (tick < 1 || tick > count || !Number.isInteger(tick)) continue;
    svg.append(drawn("text", { x: x(tick), y: high - bottom + 17, "text-anchor": "middle" }, number.format(tick)));
  }
  svg.append(drawn("text", { x: (left + width - right) / 2, y: high - 4, "text-anchor": "middle" }, "iteration"));
  addLevels(svg, fit.levels, x, top, high - bottom, width - right);
  if (threshold) {
    svg.append(drawn("line", { class: "threshold", x1: left, x2: width - right, y1: y(threshold), y2: y(threshold) }));
  }
  for (const [kind, , points] of series) {
    const places = points.map((value, index) => `${x(index + 1).toFixed(1)},${y(value).toFixed(1)}`);
    svg.append(drawn("polyline", { class: `curve ${kind}`, points: places.join(" ") }));
  }
  const legend = element("div", { class: "legend" });
  const told = series.map(([kind, name]) => legendEntry(legend, `curve ${kind}`, LOSSES[name] ? explained(name, LOSSES[name]) : name));
  if (threshold) legendEntry(legend, "threshold", explained(`Stop threshold ${threshold}`, THRESHOLD));
  addReadout(svg, legend, told, series, x, y, [top, high - bottom]);
  return [element("h3", {}, title), element("div", { class: "chart" }, svg, legend)];
}

function inWords(title, series, threshold) {
  const count = series[0][2].length;
  const told = series.map(
    ([, name, points]) => `${name} from ${significant(points[0])} to ${significant(points[count - 1])}`,
  );
  const stop = threshold ? `; stop threshold ${threshold}` : "";
  return `${title}: ${told.join("; ")}, over ${counted(count, "iteration", "iterations")}${stop}`;
}

function niceTicks(low, high, about) {
  const rough = (high - low || 1) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999);
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function addLevels(svg, levels, x, top, bottom, right) {
  const wide = 66; // of a size in words
  let done = 0;
  let free = 0;
  for (const [index, level] of levels.entries()) {
    const at = x(done + 1);
    if (index) svg.append(drawn("line", { class: "level", x1: at, x2: at, y1: top - 2, y2: bottom }));
    const from = Math.min(at, right - wide);
    if (levels.length > 1 && from >= free) {
      svg.append(drawn("text", { x: from, y: top - 7 }, `${level.width} × ${level.height}`));
      free = from + wide;
    }
    done += level.iterations;
  }
}

function legendEntry(legend, kind, name) {
  const key = drawn("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" });
  key.append(drawn("line", { class: kind, x1: 0, x2: 26, y1: 5, y2: 5, "stroke-width": 2 }));
  const value = element("span", { class: "at" });
  legend.append(element("span", {}, key, name, " ", value));
  return value;
}

function addReadout(svg, legend, told, series, x, y, [top, bottom]) {
  const count = series[0][2].length;
  const cursor = drawn("g");
  const where = element("span", { class: "at" });
  legend.append(where);
  let iteration = count;
  const show = (wanted, atRest = false) => {
    iteration = Math.min(count, Math.max(1, wanted));
    cursor.replaceChildren(
      ...(atRest ? [] : [drawn("line", { class: "cursor", x1: x(iteration), x2: x(iteration), y1: top, y2: bottom })]),
      ...series.map(([kind, , points]) => {
        return drawn("circle", { class: kind, cx: x(iteration), cy: y(points[iteration - 1]), r: 4 });
      }),
    );
    told.forEach((value, index) => { value.textContent = significant(series[index][2][iteration - 1]); });
    where.textContent = `at iteration ${number.format(iteration)}`;
  };
  svg.append(cursor);
  show(count, true);
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    const [first, last] = [x(1), x(count)];
    show(Math.round(1 + ((event.clientX - box.left - first) / (last - first || 1)) * (count - 1)));
  };
  for (const near of ["pointerdown", "pointermove"]) svg.addEventListener(near, follow);
  svg.addEventListener("pointerleave", ({ pointerType }) => {
    if (pointerType === "mouse") show(count, true); // a finger covers what it points at, and leaves to let it be read
  });
  svg.addEventListener("blur", () => show(count, true));
  svg.addEventListener("keydown", (event) => {
    const wanted = { ArrowLeft: iteration - 1, ArrowRight: iteration + 1, Home: 1, End: count }[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    show(wanted);
  });
}
