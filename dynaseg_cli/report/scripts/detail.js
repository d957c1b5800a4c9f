// The details of one image. They come as a script, the only data that a page opened from disk may load

const KEPT = 20; // images whose details are kept

const entries = new Map();
const waiting = new Map();

window.dynasegEntry = (key, entry) => waiting.get(key)?.(entry);

function entryOf(row) {
  const { key } = row;
  if (!entries.has(key)) {
    entries.set(key, load(row));
    entries.get(key).catch(() => entries.delete(key));
    if (entries.size > KEPT) entries.delete(entries.keys().next().value);
  }
  return entries.get(key);
}

function load({ key, files }) {
  return new Promise((resolve, reject) => {
    waiting.set(key, resolve);
    const script = element("script", { src: `${files}-details.js` });
    const end = () => {
      script.remove();
      waiting.delete(key);
      reject(new Error(`${files}-details.js is missing`)); // which says nothing where it came
    };
    script.addEventListener("load", end);
    script.addEventListener("error", end);
    document.head.append(script);
  });
}

const dialog = byId("detail");
const large = new View((at) => {
  if (clusters.map) clusters.toggle(clusters.map.at(at));
});
let current = null;
let details = null; // of the current image, as soon as they are there
let hierarchy = null;
let countChosen = null; // of regions, by hand, which is kept from image to image
const FILES = {
  labels: "Labels",
  color: "Coloured labels",
  overlay: "Overlay",
  regions: "Regions",
  hierarchy: "Hierarchy",
  raw: "Raw labels",
  recording: "Recording",
  stats: "Statistics",
};

const place = () => shown.indexOf(current);

function open(row) {
  if (dialog.open) history.replaceState(history.state, "", `#${row.key}`);
  else history.pushState({ opened: true }, "", `#${row.key}`);
  showDetails(row);
}

async function showDetails(row) {
  if (!dialog.open) {
    dialog.showModal();
    byId("close").focus();
  }
  current = row;
  details = hierarchy = null;
  byId("detail-name").textContent = row.name;
  byId("position").textContent = place() < 0 ? "" : `${number.format(place() + 1)} of ${number.format(shown.length)}`;
  byId("previous").disabled = place() <= 0;
  byId("next").disabled = place() < 0 || place() >= shown.length - 1;
  byId("detail-granular").hidden = true;
  checkLayer("detail-layer");
  large.show(row, detailLayer(), false);
  zoomTo(1);
  byId("overview").textContent = overview(row);
  clusters.clear();
  for (const id of ["files", "facts", "charts", "copied"]) byId(id).replaceChildren();
  for (const id of ["recording", "technical", "detail-missing"]) byId(id).hidden = true;
  for (const part of [dialog.querySelector(".body"), ...dialog.querySelectorAll(".stage, .side")]) part.scrollTop = 0;
  try {
    const entry = await entryOf(row);
    const unpacked = entry.granularity && !row.other ? await Hierarchy.of(entry.granularity) : null;
    const map = await LabelMap.of(entry.map);
    if (current !== row) return;
    [details, hierarchy] = [entry, unpacked];
    clusters.show(entry.clusters, map);
    showFiles(row, entry.files);
    byId("facts").replaceChildren(...facts([...rowFacts(row), ...entryFacts(entry)]));
    byId("technical").hidden = false;
    drawCharts();
  } catch (error) {
    if (current !== row) return;
    byId("detail-missing").textContent = `The details of this image cannot be shown: ${error.message}.`;
    byId("detail-missing").hidden = false;
  }
  byId("detail-granular").hidden = hierarchy === null;
  checkLayer("detail-layer");
  showDetailLayer();
}

function showDetailLayer() {
  const cutting = detailLayer() === "granularity" && hierarchy !== null;
  byId("granularity").hidden = !cutting;
  dialog.querySelector(".stage").classList.toggle("cutting", cutting);
  large.against(cutting ? "granularity" : detailLayer());
  sharpen();
  if (cutting) {
    byId("step").max = hierarchy.counts.length - 1;
    byId("step").value = hierarchy.placeOf(countChosen ?? hierarchy.start);
    cut();
  }
}

function cut() {
  const count = countShown();
  hierarchy.draw(large.canvas, count);
  const told = counted(count, "region", "regions");
  byId("step-value").textContent = told;
  byId("step").setAttribute("aria-valuetext", told);
  byId("step-options").textContent = hierarchy.options(count);
}

const countShown = () => hierarchy.counts[byId("step").valueAsNumber];

function move(by) {
  const row = shown[place() + by];
  if (place() >= 0 && row) open(row);
}

function leave() {
  hide();
  if (history.state?.opened) history.back();
  else history.replaceState(null, "", location.href.split("#")[0]);
}

function hide() {
  if (!dialog.open) return;
  dialog.close();
  const at = place();
  if (at < 0) return;
  if (at >= rendered) renderTo(at + 1);
  const { item, link } = cards.get(current);
  item.scrollIntoView({ block: "nearest" });
  link.focus();
}

function followHash() {
  const row = rowOf.get(location.hash.slice(1));
  if (row && !(dialog.open && current === row)) showDetails(row);
  else if (!row) hide();
}

function onKey(event) {
  if (!dialog.open || isCommand(event) || event.shiftKey || event.target.closest("input, svg[tabindex]")) return;
  const by = { ArrowLeft: -1, p: -1, ArrowRight: 1, n: 1 }[event.key];
  if (by) move(by);
}

function prepareDialog() {
  byId("detail-view").append(large.root);
  large.split(50);
  large.frame.addEventListener("pointermove", (event) => clusters.readPixel(large.placeOf(event)));
  large.frame.addEventListener("pointerleave", () => clusters.leavePixel());
  byId("recording-picture").addEventListener("error", () => { byId("recording").hidden = true; });
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("close").addEventListener("click", leave);
  byId("step").addEventListener("input", () => {
    countChosen = countShown();
    cut();
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    leave();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) leave(); // beside it
  });
  document.addEventListener("keydown", onKey); // not the dialog: a button that is disabled loses the focus to the body
  new ResizeObserver(drawCharts).observe(byId("charts"));
  window.addEventListener("popstate", followHash);
}

function facts(pairs) {
  return pairs.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]);
}

function overview(row) {
  const size = `${number.format(row.width)} × ${number.format(row.height)} pixels`;
  const whose = row.other ? [`the table is of ${SIDES[0]}`] : [];
  return [size, tally(row, "labels", "label"), tally(row, "regions", "region"), ...whose].join(" · ");
}

function showFiles(row, files) {
  const links = Object.entries(FILES)
    .filter(([product]) => files[product])
    .map(([product, title]) => element("a", { href: files[product], target: "_blank", rel: "noopener" }, title));
  if (links.length) byId("files").replaceChildren(element("h3", {}, "Files"), element("p", {}, ...links));
  byId("recording").hidden = !files.recording;
  if (!files.recording) return;
  byId("recording-picture").src = files.recording;
  byId("recording-picture").alt = `How the labels of ${row.name} came about, iteration by iteration`;
}

function rowFacts(row) {
  const after = row.iterations ? ` after ${counted(row.iterations, "iteration", "iterations")}` : "";
  return [["Stopped", `${row.stop_reason}${after}, ${seconds(row.seconds)}`]];
}

function entryFacts({ source, device, fit }) {
  const levels = fit.levels.length ? fit.levels : [fit];
  const sizes = levels.map((level) => `${level.width} × ${level.height}`).join(", then ");
  const fitted = [
    ["Stop threshold", counted(fit.threshold, "label", "labels")],
    ...(fit.silhouette ? [["Silhouette", silhouetteText(fit.silhouette)]] : []),
    ["Fitted at", `${sizes} pixels`],
  ];
  return [
    ...(fit.iterations ? fitted : [["Applied at", `${sizes} pixels`]]),
    ["Arithmetic", fit.precision],
    ["Device", device],
    ["File", source.path],
    ["SHA-256", source.sha256],
  ];
}

function silhouetteText({ k, score }) {
  return counted(k, "cluster", "clusters") + (score === null ? "" : `, score ${score.toFixed(2)}`);
}
