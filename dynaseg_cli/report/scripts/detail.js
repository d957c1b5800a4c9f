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
    const script = element("script", { src: `${files}.js` });
    const end = () => {
      script.remove();
      waiting.delete(key);
      reject(new Error(`${files}.js is missing`)); // which says nothing where it came
    };
    script.addEventListener("load", end);
    script.addEventListener("error", end);
    document.head.append(script);
  });
}

const dialog = byId("detail");
const large = new View(null);
let current = null;
let details = null; // of the current image, as soon as they are there
let hierarchy = null;
let stepChosen = null; // by hand, which is kept from image to image

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
  byId("facts").replaceChildren(...facts(rowFacts(row)));
  byId("charts").replaceChildren();
  byId("clusters").replaceChildren();
  byId("detail-missing").hidden = true;
  for (const part of [dialog.querySelector(".body"), ...dialog.querySelectorAll(".stage, .side")]) part.scrollTop = 0;
  try {
    const entry = await entryOf(row);
    const unpacked = entry.granularity ? await Hierarchy.of(entry.granularity) : null;
    if (current !== row) return;
    [details, hierarchy] = [entry, unpacked];
    byId("facts").replaceChildren(...facts([...rowFacts(row), ...entryFacts(entry)]));
    drawCharts();
    byId("clusters").replaceChildren(...clusterTable(entry.clusters));
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
  if (cutting) {
    byId("step").value = stepChosen ?? hierarchy.start;
    cut();
  }
}

function cut() {
  const step = byId("step").valueAsNumber;
  hierarchy.draw(large.canvas, step);
  const told = `${(step / 100).toFixed(2)}, ${counted(hierarchy.regions[step], "region", "regions")}`;
  byId("step-value").textContent = told;
  byId("step").setAttribute("aria-valuetext", told);
}

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
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, svg[tabindex]")) return;
  const by = { ArrowLeft: -1, p: -1, ArrowRight: 1, n: 1 }[event.key];
  if (by) move(by);
}

function prepareDialog() {
  byId("detail-view").append(large.root);
  large.split(50);
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("close").addEventListener("click", leave);
  byId("step").addEventListener("input", () => {
    stepChosen = byId("step").valueAsNumber;
    cut();
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    leave();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) leave(); // beside it
  });
  dialog.addEventListener("keydown", onKey);
  new ResizeObserver(drawCharts).observe(byId("charts"));
  window.addEventListener("popstate", followHash);
}

function facts(pairs) {
  return pairs.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]);
}

function rowFacts(row) {
  const after = row.iterations ? ` after ${counted(row.iterations, "iteration", "iterations")}` : "";
  return [
    ["Size", `${number.format(row.width)} × ${number.format(row.height)} pixels`],
    ["Labels", number.format(row.labels)],
    ["Regions", number.format(row.regions)],
    ["Stopped", `${row.stop_reason}${after}, ${seconds(row.seconds)}`],
  ];
}

function entryFacts({ source, device, fit }) {
  const levels = fit.levels.length ? fit.levels : [fit];
  const sizes = levels.map((level) => `${level.width} × ${level.height}`).join(", then ");
  const left = fit.labels_per_iteration.at(-1);
  const fitted = [
    ["Stop threshold", counted(fit.threshold, "label", "labels")],
    ...(fit.silhouette ? [["Silhouette", silhouetteText(fit.silhouette)]] : []),
    ["Fitted at", `${sizes} pixels, where ${counted(left, "label was", "labels were")} left`],
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
