// The table of jobs: what is shown is in the address, so it can be sent to somebody and survives Back.

import { bulkBar } from "./bulk.js";
import { columnMenu } from "./column_menu.js";
import { byId, fill, h, pageData, patch } from "./dom.js";
import { chosenColumns, columnsOf, isDefault, store, stored } from "./job_columns.js";
import { empty } from "./parts.js";
import { searchHelp } from "./search_help.js";
import { Selection } from "./selection.js";
import { getJson, live, url } from "./site.js";
import { drawPages, drawTable } from "./table.js";

const FILTERS = ["q", "state", "kind", "family", "framework", "dataset"];
const MOST_COMPARED = 100;
const ARCHIVED = "is:archived";
const form = byId("jobs-filters");
const table = byId("jobs-table");
const selection = new Selection(() => draw(shown));
let shown = pageData();
let drawn = "";

const query = () => new URLSearchParams(location.search);

/** Change the address and ask again. Everything but a change of page or columns starts at the first page. */
function change(changes, { push = true } = {}) {
  const next = query();
  if (!("page" in changes) && !("columns" in changes)) next.delete("page");
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
  const address = `${location.pathname}${next.size ? `?${next.toString().replaceAll("%2C", ",")}` : ""}`;
  push ? history.pushState(null, "", address) : history.replaceState(null, "", address);
  updates.now();
}

function changeColumns(keys) {
  store(keys);
  change({ columns: isDefault(keys) ? null : keys.join() });
  draw(shown);
}

function drawStates(counts) {
  const now = query().get("state") || "";
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const chip = (name, label, count) =>
    h("button", { type: "button", class: "ns-chip", "aria-pressed": now === name, "data-key": `state-${name}`, onclick: () => change({ state: name }) },
      name ? h("span", { class: `ns-dot ns-${name}`, "aria-hidden": "true" }) : null, label, h("span", { class: "ns-count" }, count.toLocaleString("en-US")));
  const words = (query().get("q") || "").split(/\s+/).filter((word) => word && word !== ARCHIVED);
  const archived = (query().get("q") || "").includes(ARCHIVED);
  const search = (q) => { form.elements.q.value = q.join(" "); change({ q: q.join(" ") }); };
  patch(byId("jobs-states"), chip("", "All", all), Object.entries(counts).map(([state, count]) => chip(state, state, count)),
    h("button", { type: "button", class: "ns-chip", "aria-pressed": archived, "data-key": `archived-${words.join(" ")}`, onclick: () => search(archived ? words : [...words, ARCHIVED]) }, "Archived"));
}

function drawEmpty(total) {
  const box = byId("jobs-empty");
  box.hidden = total > 0;
  table.hidden = total === 0;
  const narrowed = FILTERS.some((name) => query().get(name));
  fill(box, total ? null : narrowed
    ? empty("No job matches", "Change the search or ", h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => form.reset() }, "Clear the filters"))
    : empty("No jobs yet", "Submit the first one:", h("code", {}, "nightshift submit train cnn --dataset digits --epochs 5")));
}

function drawProblem(text) {
  const box = byId("jobs-problem");
  box.hidden = !text;
  box.textContent = text || "";
  text ? form.elements.q.setAttribute("aria-invalid", "true") : form.elements.q.removeAttribute("aria-invalid");
}

function draw(answer) {
  shown = answer;
  drawProblem(answer.problem);
  const keys = chosenColumns(query());
  selection.see(answer.items);
  const text = JSON.stringify(answer) + location.search + selection.ids + keys;
  if (text === drawn) return;
  drawn = text;
  const ticks = { label: "", head: selection.all(), class: "ns-check", cell: (job) => selection.box(job) };
  drawStates(answer.counts);
  drawTable(table, [ticks, ...columnsOf(keys)], answer.items, { key: (job) => job.id, sort: query().get("sort") || "-created", onSort: (sort) => change({ sort }), rowClass: (job) => (selection.has(job.id) ? "ns-ticked" : "") });
  drawEmpty(answer.total);
  drawPages(byId("jobs-pages"), answer.page, answer.pages, answer.total, "job", (page) => change({ page: page > 1 ? String(page) : null }));
  drawCompare(answer.total);
  bar.draw();
}

function drawCompare(total) {
  const button = byId("jobs-compare");
  button.disabled = selection.size ? selection.size < 2 || selection.size > MOST_COMPARED : total < 2;
  button.textContent = selection.size ? `Compare ${selection.size}` : "Compare all";
  button.title = selection.size ? `Up to ${MOST_COMPARED} jobs` : `The first ${Math.min(total, MOST_COMPARED)} that match; tick some to compare those`;
}

function compare() {
  if (selection.size) return `/compare?ids=${selection.ids.join(",")}`;
  const asked = FILTERS.concat("sort").map((name) => [name, query().get(name)]).filter(([, value]) => value);
  return `/compare?${new URLSearchParams([["all", "1"], ...asked])}`;
}

function fromAddress() {
  for (const field of form.elements) if (field.name) field.value = query().get(field.name) || "";
}

let typing = null;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => { if (event.target.tagName === "SELECT") change({ [event.target.name]: event.target.value }); });
form.elements.q.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ q: form.elements.q.value.trim() }, { push: false }), 250);
});
form.addEventListener("reset", () => setTimeout(() => change(Object.fromEntries(FILTERS.map((name) => [name, ""])))));
byId("jobs-compare").addEventListener("click", () => { location.href = url(compare()); });
table.addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  if (row && !event.target.closest("a, input, button, .ns-check") && !getSelection().toString()) location.href = url(`/jobs/${row.dataset.row}`);
});
window.addEventListener("popstate", () => { fromAddress(); updates.now(); });
form.elements.q.after(searchHelp((example) => { form.elements.q.value = `${form.elements.q.value} ${example}`.trim(); form.elements.q.focus(); change({ q: form.elements.q.value }); }));
byId("jobs-compare").before(columnMenu(() => chosenColumns(query()), changeColumns));

fromAddress();
// What a search cannot be read as is said under it; the table stays as it was.
const updates = live(async (signal) => {
  const answer = await getJson(`/jobs/data${location.search}`, signal);
  answer.problem ? drawProblem(answer.problem) : draw(answer);
});
const bar = bulkBar(byId("jobs-bulk"), selection, () => updates.now());
draw(shown);
if (!query().get("columns") && stored()) change({ columns: stored(), page: query().get("page") }, { push: false });
