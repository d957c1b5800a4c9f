// The cards, and which of them are shown in which order

const BATCH = 40; // cards that are made at a time
const FILTERS = ["search", "stop", "least-labels", "most-labels", "least-seconds", "most-seconds"];

const cards = new Map(); // of rows that were in sight once
let rendered = 0;

function cardOf(row) {
  if (!cards.has(row)) cards.set(row, makeCard(row));
  return cards.get(row);
}

function makeCard(row) {
  const item = byId("card-template").content.cloneNode(true).querySelector(".card");
  item.dataset.key = row.key;
  const view = new View(() => open(row));
  item.prepend(view.root);
  view.show(row, cardLayer(), true);
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
  item.querySelector(".labels").textContent = tally(row, "labels", "label");
  item.querySelector(".regions").textContent = tally(row, "regions", "region");
  item.querySelector(".seconds").textContent = seconds(row.seconds);
  item.querySelector(".stop").textContent = row.stop_reason;
  item.querySelector(".stop").title = `Stopped: ${row.stop_reason}`;
  nearness.observe(item);
  return { item, view, link };
}

/** How many labels or regions an image has; in a comparison, on both sides. */
function tally(row, field, one) {
  return row.other ? `${number.format(row[field])} | ${counted(row.other[field], one, field)}` : counted(row[field], one, field);
}

const near = new Set(); // items of cards that are in sight, or soon will be
const nearness = new IntersectionObserver(
  (changes) => {
    for (const { target, isIntersecting } of changes) {
      if (!isIntersecting) near.delete(target);
      if (!isIntersecting || near.has(target)) continue;
      near.add(target);
      const { view } = cards.get(rowOf.get(target.dataset.key));
      if (view.layerName !== cardLayer()) view.against(cardLayer());
    }
  },
  { rootMargin: "800px" },
);

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
  byId("clear").hidden = !FILTERS.some((id) => byId(id).value);
  byId("none").hidden = shown.length > 0;
  byId("none").textContent = rows.length ? "No images match." : "No image was segmented.";
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
  const field = !byId("sort").value || byId("sort").value === "name" ? "rank" : byId("sort").value;
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

/** Cards far from sight change their layer when they come near: to change thousands at once would take seconds. */
function showCardLayer() {
  for (const { item, view } of cards.values()) if (near.has(item)) view.against(cardLayer());
}

/** Whether there is something to choose: a filter by what all images share would only take room. */
const varies = (field) => rows.some((row) => row[field] !== rows[0][field]);

function showTools() {
  const reasons = new Map();
  for (const { stop_reason: reason } of rows) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  for (const reason of [...reasons.keys()].sort()) {
    byId("stop").append(element("option", { value: reason }, `${reason} (${number.format(reasons.get(reason))})`));
  }
  const filters = { "stop-filter": "stop_reason", "labels-filter": "labels", "seconds-filter": "seconds" };
  for (const [id, field] of Object.entries(filters)) byId(id).hidden = !varies(field);
  byId("tools").classList.toggle("unfiltered", !Object.values(filters).some(varies));
  for (const option of [...byId("sort").options]) if (!varies(option.value)) option.remove();
  byId("sorting").hidden = byId("sort").options.length === 0;
  byId("filters-button").hidden = rows.length < 2;
  byId("tools").hidden = rows.length === 0;
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  discloses(byId("filters-button"), byId("filters"));
  for (const id of [...FILTERS, "sort"]) byId(id).addEventListener("input", refresh);
  byId("direction").addEventListener("click", turn);
  byId("clear").addEventListener("click", clearFilters);
  byId("split").addEventListener("input", () => {
    for (const { view } of cards.values()) view.split(byId("split").value);
  });
  new ResizeObserver(([{ target }]) => {
    document.documentElement.style.setProperty("--tools", `${target.offsetHeight}px`);
  }).observe(byId("tools"));
}
