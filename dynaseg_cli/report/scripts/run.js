// The data of the page, and its head

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
    if (row.other) row.other = Object.fromEntries(["files", "labels", "regions"].map((field, index) => [field, row.other[index]]));
  }
  made.sort((one, other) => collator.compare(one.name, other.name));
  made.forEach((row, rank) => { row.rank = rank; });
  return made;
}

const nameOf = (folder) => folder.split("/").filter(Boolean).pop() ?? folder;
const compared = run.compared ? [String(run.output ?? ""), run.compared.with] : null;
const SIDES = compared && (compared.map(nameOf)[0] === compared.map(nameOf)[1] ? compared : compared.map(nameOf));

function showHead() {
  const folder = String(run.output ?? "");
  const name = SIDES ? SIDES.join(" | ") : nameOf(folder);
  byId("folder").textContent = name;
  byId("folder").title = compared ? compared.join(" | ") : folder;
  document.title = `${name} · dynaseg report`;
  byId("summary").textContent = summary();
  discloses(byId("about-button"), byId("about"));
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

function summary() {
  if (compared) {
    const { unpaired } = run.compared;
    const rest = unpaired ? `; ${counted(unpaired, "image has", "images have")} no partner` : "";
    return `${SIDES[0]} to the left, ${SIDES[1]} to the right${rest}`;
  }
  const took = `the run took ${seconds(run.seconds)}`;
  if (!rows.length) return "";
  if (rows.length === 1) return took;
  const [labels, regions] = ["labels", "regions"].map((field) => number.format(median(sorted(field))));
  return `${labels} labels and ${regions} regions in the median; ${took}`;
}

const sorted = (field) => rows.map((row) => row[field]).sort((one, other) => one - other);
const median = (values) => (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2;

function spread(field) {
  const values = sorted(field);
  const [least, most] = [values[0], values[values.length - 1]].map(number.format);
  return [number.format(median(values)), least === most ? "in each image" : `median, ${least} to ${most}`];
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
