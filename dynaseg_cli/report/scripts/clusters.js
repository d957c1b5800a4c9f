// The table of clusters, which answers to the picture and the picture to it

const PARTS = "Connected pieces of this label in the photo. Regions that touch and have one label are one part.";

const clusters = {
  entries: new Map(), // by label
  rows: new Map(),
  map: null,
  selected: null, // a label
  pointedAt: null, // a label, in the table

  show(entries, map) {
    this.map = map;
    this.entries = new Map(entries.map((entry) => [entry.label, entry]));
    this.rows = new Map(entries.map((entry) => [entry.label, clusterRow(entry, entries)]));
    byId("clusters").replaceChildren(clusterTable([...this.rows.values()]));
    byId("pixel").hidden = false;
    this.leavePixel();
  },

  clear() {
    this.selected = this.pointedAt = this.map = null;
    byId("clusters").replaceChildren();
    byId("pixel").hidden = true;
    large.lit.hidden = true;
  },

  /** Select a label, or none where it is selected already. */
  toggle(label) {
    if (!this.entries.has(label)) return; // outside the mask
    this.selected = this.selected === label ? null : label;
    for (const [each, row] of this.rows) {
      const selected = each === this.selected;
      row.classList.toggle("selected", selected);
      row.querySelector(".pick").setAttribute("aria-pressed", String(selected));
      if (selected) row.scrollIntoView({ block: "nearest" });
    }
    this.light();
  },

  point(label) {
    this.pointedAt = label;
    this.light();
  },

  light() {
    const label = this.pointedAt ?? this.selected;
    large.lit.hidden = label === null;
    if (label !== null) this.map.light(large.lit, label);
  },

  /** Tell which label is at a place in the picture, and mark its row. */
  readPixel(at) {
    if (!this.map) return;
    const label = this.map.at(at);
    const [x, y] = [Math.floor(at.x * current.width), Math.floor(at.y * current.height)];
    const entry = this.entries.get(label);
    const name = nameOfLabel(label) && ` (${nameOfLabel(label)})`;
    const what = entry ? `Label ${label}${name}, ${percent(entry.fraction)} of the photo,` : "Outside the mask,";
    byId("pixel").textContent = `${what} at pixel ${x}, ${y}`;
    for (const [each, row] of this.rows) row.classList.toggle("pointed-at", each === label);
  },

  leavePixel() {
    byId("pixel").textContent = "Point at a label to read it, click to select it.";
    for (const row of this.rows.values()) row.classList.remove("pointed-at");
  },
};

function clusterTable(rows) {
  const heads = [
    ["Label"],
    ["Share", "share"],
    ["Pixels"],
    [explained("Parts", PARTS)],
    ["Colour", "color"],
    ["Mean colour", "color"],
  ];
  const head = heads.map(([title, kind]) => element("th", { scope: "col", class: kind ?? "" }, title));
  const kind = run.names ? "named" : "";
  return element("table", { class: kind }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

function clusterRow({ label, color, fraction, pixels, regions, mean_rgb: mean }, entries) {
  const bar = element("b");
  bar.style.width = `${(fraction / Math.max(...entries.map((entry) => entry.fraction))) * 100}%`;
  const share = element("div", { class: "measure" }, element("i", {}, bar), element("span", {}, percent(fraction)));
  const pick = element("button", { type: "button", class: "pick", "aria-pressed": "false" }, swatch(color), String(label));
  pick.title = "Show where this label is in the photo";
  const name = nameOfLabel(label);
  if (name) pick.append(" ", element("span", { class: "called", title: name }, name));
  const row = element(
    "tr",
    {},
    element("td", {}, pick),
    element("td", { class: "share" }, share),
    element("td", {}, number.format(pixels)),
    element("td", {}, number.format(regions)),
    element("td", {}, copyButton(color)),
    element("td", {}, copyButton(mean)),
  );
  row.addEventListener("click", (event) => {
    if (!event.target.closest(".copy")) clusters.toggle(label);
  });
  row.addEventListener("pointerenter", ({ pointerType }) => {
    if (pointerType === "mouse") clusters.point(label);
  });
  row.addEventListener("pointerleave", () => clusters.point(null));
  return row;
}

const nameOfLabel = (label) => run.names?.[label] ?? "";

const hexadecimal = (color) => `#${color.map((value) => value.toString(16).padStart(2, "0")).join("")}`;

function swatch(color) {
  const made = element("span", { class: "swatch" });
  made.style.backgroundColor = `rgb(${color.join(" ")})`;
  return made;
}

function copyButton(color) {
  const text = hexadecimal(color);
  const title = `Copy ${text}`;
  const button = element("button", { type: "button", class: "copy", title, "aria-label": title }, swatch(color));
  button.append(element("span", { class: "optional" }, text));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      byId("copied").textContent = `${text} is copied.`;
    } catch {
      byId("copied").textContent = `The browser does not let this page copy ${text}.`;
    }
  });
  return button;
}
