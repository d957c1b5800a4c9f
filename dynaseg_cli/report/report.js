"use strict";

(() => {
  const BATCH = 40; // cards that are made at a time
  const KEPT = 20; // images whose details are kept
  const GIVE_UP = 6; // pictures that fail, with none that came, before no more are asked for
  const SVG = "http://www.w3.org/2000/svg";
  const LAYERS = { labels: "labels", regions: "regions", overlay: "overlay", granularity: "regions at any granularity" };
  const FILTERS = ["search", "stop", "least-labels", "most-labels", "least-seconds", "most-seconds"];
  const number = new Intl.NumberFormat("en-GB");
  const collator = new Intl.Collator("en-GB", { numeric: true });

  const byId = (id) => document.getElementById(id);
  const json = (id) => JSON.parse(byId(id).textContent);
  const counted = (count, one, many) => `${number.format(count)} ${count === 1 ? one : many}`;
  const seconds = (value) => `${value < 100 ? value.toFixed(value < 10 ? 2 : 1) : number.format(Math.round(value))} s`;
  const percent = (value) => `${(value * 100).toFixed(value < 0.1 ? 2 : 1)} %`;
  const significant = (value) => (Math.abs(value) >= 1e5 ? value.toExponential(2) : String(Number(value.toPrecision(4))));

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function drawn(tag, attributes = {}, text = "") {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  }

  // Data

  const run = json("run");
  const failures = json("failed");
  const rows = readRows(json("rows"));
  const rowOf = new Map(rows.map((row) => [row.key, row]));
  let shown = []; // rows that the filters leave, in order

  function readRows({ fields, rows: values }) {
    const made = values.map((row) => Object.fromEntries(fields.map((field, index) => [field, row[index]])));
    for (const row of made) {
      row.key = row.files.slice(row.files.lastIndexOf("/") + 1);
      row.search = row.name.toLowerCase();
    }
    made.sort((one, other) => collator.compare(one.name, other.name));
    made.forEach((row, rank) => { row.rank = rank; });
    return made;
  }

  // Head

  function showHead() {
    const folder = String(run.output ?? "");
    const name = folder.split("/").filter(Boolean).pop() ?? folder;
    byId("folder").textContent = name;
    byId("folder").title = folder;
    document.title = `${name} · dynaseg report`;
    byId("interrupted").hidden = !run.interrupted;
    const totals = [["Images", number.format(run.images)], ["Done", number.format(run.done)]];
    if (run.skipped) totals.push(["Complete before", number.format(run.skipped)]);
    totals.push(["Failed", number.format(failures.length)]); // also those of other shards
    if (rows.length) totals.push(["Labels", ...spread("labels")], ["Regions", ...spread("regions")]);
    totals.push(["Time", seconds(run.seconds)], ["Device", run.device]);
    if (run.shard && run.shard !== "1/1") totals.push(["Shard", run.shard]);
    for (const [term, value, more] of totals) {
      const told = element("dd", {}, String(value));
      if (more) told.append(" ", element("small", {}, more));
      byId("totals").append(element("div", {}, element("dt", {}, term), told));
    }
  }

  function spread(field) {
    const values = rows.map((row) => row[field]).sort((one, other) => one - other);
    const [least, most] = [values[0], values[values.length - 1]].map(number.format);
    const median = (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2;
    return [number.format(median), least === most ? "in each image" : `median, ${least} to ${most}`];
  }

  function showFailures() {
    const box = byId("failures");
    box.hidden = failures.length === 0;
    box.open = failures.length <= 5 || rows.length === 0;
    byId("failures-title").textContent = `${counted(failures.length, "image", "images")} failed`;
    box.querySelector("tbody").append(
      ...failures.map(({ path, reason }) => element("tr", {}, element("td", {}, path), element("td", {}, reason))),
    );
  }

  function showAbout() {
    const place = { folder: run.output, colours: run.colors, ...(run.scribbles ? { scribbles: run.scribbles } : {}) };
    const tables = [["Options", run.options], ["Regions", run.cut], ["Versions", run.versions], ["Output", place]];
    for (const [title, entries] of tables) {
      if (!entries) continue;
      const list = element("dl", { class: "settings" });
      for (const [name, value] of Object.entries(entries)) {
        list.append(element("div", {}, element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, setting(value))));
      }
      const kind = Object.keys(entries).length > 12 ? "long" : "short";
      byId("about-tables").append(element("section", { class: kind }, element("h3", {}, title), list));
    }
  }

  function setting(value) {
    if (value === null) return "-";
    if (typeof value === "boolean") return value ? "yes" : "no";
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  }

  // A photo and a layer over it, clipped at a split: in each card, and large in the details

  class View {
    constructor(onOpen) {
      this.root = byId("view-template").content.cloneNode(true).querySelector(".view");
      [this.tile, this.slider] = this.root.children;
      this.frame = this.tile.firstElementChild;
      [this.photo, this.layer, this.canvas, , this.missing] = this.frame.children;
      this.slider.addEventListener("input", () => this.split(this.slider.value));
      for (const picture of [this.photo, this.layer]) {
        picture.addEventListener("load", () => pictures.came());
        picture.addEventListener("error", () => this.lose());
      }
      this.scrub(onOpen);
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
      else this.photo.src = `${row.files}-photo.webp`;
      this.against(layer);
    }

    against(layer) {
      const cutting = layer === "granularity";
      this.layer.hidden = cutting;
      this.canvas.hidden = !cutting;
      if (!cutting && !this.lost) this.layer.src = `${this.row.files}-${layer}.webp`;
      const told = `${this.row.name}: photo to the left of the split, ${LAYERS[layer]} to the right`;
      this.slider.setAttribute("aria-label", told);
    }

    split(value) {
      this.slider.value = value;
      this.root.style.setProperty("--split", `${this.slider.value}%`);
      this.slider.setAttribute("aria-valuetext", `${Math.round(this.slider.value)} % photo`);
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

    scrub(onOpen) {
      let from = null;
      let moved = false;
      const follow = (event) => {
        const box = this.frame.getBoundingClientRect();
        this.split(((event.clientX - box.left) / box.width) * 100);
      };
      this.frame.addEventListener("pointerdown", (event) => {
        if (event.button === 0) [from, moved] = [event.clientX, false];
      });
      this.frame.addEventListener("pointermove", (event) => {
        if (from === null || (!moved && Math.abs(event.clientX - from) < 5)) return;
        if (!moved) this.frame.setPointerCapture(event.pointerId);
        moved = true;
        follow(event);
      });
      for (const end of ["pointerup", "pointercancel"]) this.frame.addEventListener(end, () => { from = null; });
      this.frame.addEventListener("click", (event) => {
        if (!moved && onOpen) onOpen();
        else if (!moved) follow(event);
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

  // Grid

  const cards = new Map(); // of rows that were in sight once
  let rendered = 0;
  const layerChosen = () => byId("tools").elements.layer.value;

  function cardOf(row) {
    if (!cards.has(row)) cards.set(row, makeCard(row));
    return cards.get(row);
  }

  function makeCard(row) {
    const item = byId("card-template").content.cloneNode(true).querySelector(".card");
    const view = new View(() => open(row));
    item.prepend(view.root);
    view.show(row, layerChosen(), true);
    view.split(byId("split").value);
    const link = item.querySelector(".name");
    link.textContent = row.name;
    link.title = row.name;
    link.setAttribute("href", `#${row.key}`);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      open(row);
    });
    item.querySelector(".labels").textContent = counted(row.labels, "label", "labels");
    item.querySelector(".regions").textContent = counted(row.regions, "region", "regions");
    item.querySelector(".seconds").textContent = seconds(row.seconds);
    item.querySelector(".stop").textContent = row.stop_reason;
    item.querySelector(".stop").title = `Stopped: ${row.stop_reason}`;
    return { item, view, link };
  }

  function renderTo(count) {
    const some = shown.slice(rendered, count).map((row) => cardOf(row).item);
    byId("grid").append(...some);
    rendered += some.length;
    byId("more").hidden = rendered >= shown.length;
  }

  const sentinel = new IntersectionObserver(
    (seen) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      renderTo(rendered + BATCH);
      // Told again, should it still be in sight.
      sentinel.unobserve(byId("more"));
      sentinel.observe(byId("more"));
    },
    { rootMargin: "1200px" },
  );

  function refresh() {
    shown = rows.filter(filter()).sort(order());
    byId("grid").replaceChildren();
    rendered = 0;
    renderTo(BATCH);
    byId("count").textContent =
      shown.length === rows.length
        ? counted(rows.length, "image", "images")
        : `${number.format(shown.length)} of ${counted(rows.length, "image", "images")}`;
    byId("count").hidden = rows.length === 0;
    byId("none").hidden = shown.length > 0;
    byId("none").firstElementChild.textContent = rows.length ? "No image is like that." : "No image was segmented.";
    byId("clear").hidden = rows.length === 0;
  }

  function filter() {
    const part = byId("search").value.trim().toLowerCase();
    const stop = byId("stop").value;
    const ranges = ["labels", "seconds"].map(rangeOf);
    return (row) =>
      row.search.includes(part) && (!stop || row.stop_reason === stop) && ranges.every((includes) => includes(row));
  }

  function rangeOf(field) {
    const [least, most] = [byId(`least-${field}`).valueAsNumber, byId(`most-${field}`).valueAsNumber];
    return (row) => !(row[field] < least) && !(row[field] > most); // nothing is below or above what is not a number
  }

  function order() {
    const field = byId("sort").value === "name" ? "rank" : byId("sort").value;
    const sign = descending() ? -1 : 1;
    return (one, other) => {
      if (one[field] === other[field]) return one.rank - other.rank;
      return one[field] < other[field] ? -sign : sign;
    };
  }

  const descending = () => byId("direction").getAttribute("aria-pressed") === "true";

  function turn() {
    byId("direction").setAttribute("aria-pressed", String(!descending()));
    byId("direction").textContent = descending() ? "↓" : "↑";
    refresh();
  }

  function clearFilters() {
    for (const id of FILTERS) byId(id).value = "";
    refresh();
    byId("search").focus();
  }

  function showTools() {
    const reasons = new Map();
    for (const { stop_reason: reason } of rows) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    for (const reason of [...reasons.keys()].sort()) {
      byId("stop").append(element("option", { value: reason }, `${reason} (${number.format(reasons.get(reason))})`));
    }
    byId("tools").hidden = rows.length === 0;
    byId("tools").addEventListener("submit", (event) => event.preventDefault());
    for (const id of [...FILTERS, "sort"]) byId(id).addEventListener("input", refresh);
    byId("direction").addEventListener("click", turn);
    byId("clear").addEventListener("click", clearFilters);
    byId("layer").addEventListener("change", () => {
      for (const { view } of cards.values()) view.against(layerChosen());
    });
    byId("split").addEventListener("input", () => {
      for (const { view } of cards.values()) view.split(byId("split").value);
    });
  }

  // Details: a script for each image, for a page opened from disk may load no other kind of data

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
  const detailLayer = () => dialog.querySelector("[name=detail-layer]:checked").value;

  function open(row) {
    if (dialog.open) history.replaceState(history.state, "", `#${row.key}`);
    else history.pushState({ opened: true }, "", `#${row.key}`);
    showDetails(row);
  }

  async function showDetails(row) {
    if (!dialog.open) {
      setDetailLayer(layerChosen());
      dialog.showModal();
      byId("close").focus();
    }
    current = row;
    details = hierarchy = null;
    byId("detail-name").textContent = row.name;
    byId("position").textContent = place() < 0 ? "" : `${number.format(place() + 1)} of ${number.format(shown.length)}`;
    byId("previous").disabled = place() <= 0;
    byId("next").disabled = place() < 0 || place() >= shown.length - 1;
    large.show(row, detailLayer() === "granularity" ? "regions" : detailLayer(), false);
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
    if (hierarchy === null && detailLayer() === "granularity") setDetailLayer("regions");
    changeLayer();
  }

  function setDetailLayer(layer) {
    dialog.querySelector(`[name=detail-layer][value=${layer}]`).checked = true;
  }

  function changeLayer() {
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
    byId("detail-layer").addEventListener("change", changeLayer);
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

  // Charts

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
      ...chart("Labels while fitting", [["first", "Labels", fit.labels_per_iteration]], fit, width, fit.threshold),
      ...chart("Losses while fitting", losses, fit, width, null),
    );
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
    const told = series.map(([kind, name]) => legendEntry(legend, `curve ${kind}`, name));
    if (threshold) legendEntry(legend, "threshold", `Stop threshold ${threshold}`);
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

  showHead();
  showFailures();
  showAbout();
  showTools();
  prepareDialog();
  refresh();
  sentinel.observe(byId("more"));
  followHash();
})();
