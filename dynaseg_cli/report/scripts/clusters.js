// The table of clusters

function clusterTable(clusters) {
  const most = Math.max(...clusters.map(({ fraction }) => fraction));
  const body = element("tbody");
  for (const { label, color, fraction, pixels, regions, mean_rgb: mean } of clusters) {
    const bar = element("b");
    bar.style.width = `${(fraction / most) * 100}%`;
    const share = element("div", { class: "measure" }, element("i", {}, bar), element("span", {}, percent(fraction)));
    body.append(
      element(
        "tr",
        {},
        element("td", {}, swatch(color), String(label)),
        element("td", { class: "share" }, share),
        element("td", {}, number.format(pixels)),
        element("td", {}, number.format(regions)),
        element("td", {}, swatch(mean), element("span", { class: "optional" }, hexadecimal(mean))),
      ),
    );
  }
  const heads = [["Label"], ["Share", "share"], ["Pixels"], ["Parts"], ["Mean colour"]];
  const head = heads.map(([title, kind]) => element("th", { scope: "col", class: kind ?? "" }, title));
  return [element("h3", {}, "Clusters"), element("table", {}, element("thead", {}, element("tr", {}, ...head)), body)];
}

const hexadecimal = (color) => `#${color.map((value) => value.toString(16).padStart(2, "0")).join("")}`;

function swatch(color) {
  const made = element("span", { class: "swatch" });
  made.style.backgroundColor = `rgb(${color.join(" ")})`;
  return made;
}
