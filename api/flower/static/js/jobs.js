// The jobs table. Its view is in the address, so it can be shared and survives Back.

import { bulkBar } from "./bulk.js";
import { columnMenu } from "./column_menu.js";
import { byId, fill, h, pageData, patch } from "./dom.js";
import { trainCommand } from "./facts.js";
import { chosenColumns, columnsOf, isDefault, store, stored } from "./job_columns.js";
import { empty } from "./parts.js";
import { searchHelp } from "./search_help.js";
import { Selection } from "./selection.js";
import { getJson, live, url } from "./site.js";
import { atLeast, drawPages, drawTable } from "./table.js";

const FILTERS = ["q", "state", "kind", "family", "framework", "dataset"];
const MOST_COMPARED = 100;
const ARCHIVED = "is:archived";
const form = /** @type {HTMLFormElement} */ (byId("jobs-filters"));
const search = /** @type {HTMLInputElement} */ (form.elements.namedItem("q"));
const compareButton = /** @type {HTMLButtonElement} */ (byId("jobs-compare"));
const table = byId("jobs-table");
const selection = new Selection(() => draw(shown));
/** @type {JobsTable} */
let shown = pageData();
let drawn = "";

const query = () => new URLSearchParams(location.search);

/**
 * Change the address and reload. Only a change of page or columns keeps the page number.
 * @param {Record<string, string | null>} changes
 */
function change(changes, { push = true } = {}) {
  const next = query();
  if (!("page" in changes) && !("columns" in changes)) next.delete("page");
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
  const address = `${location.pathname}${next.size ? `?${next.toString().replaceAll("%2C", ",")}` : ""}`;
  push ? history.pushState(null, "", address) : history.replaceState(null, "", address);
  updates.now();
}

/** @param {string[]} keys */
function changeColumns(keys) {
  store(keys);
  change({ columns: isDefault(keys) ? null : keys.join() });
  draw(shown);
}

/**
 * @param {Record<string, number>} counts
 * @param {boolean} more
 */
function drawStates(counts, more) {
  const now = query().get("state") || "";
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  /**
   * @param {string} name
   * @param {string} label
   * @param {number} count
   */
  const chip = (name, label, count) =>
    h(
      "button",
      {
        type: "button",
        class: "ns-chip",
        "aria-pressed": now === name,
        "data-key": `state-${name}`,
        onclick: () => change({ state: name }),
      },
      name ? h("span", { class: `ns-dot ns-${name}`, "aria-hidden": "true" }) : null,
      label,
      h("span", { class: "ns-count" }, atLeast(count, more && count > 0)),
    );
  const words = (query().get("q") || "").split(/\s+/).filter((word) => word && word !== ARCHIVED);
  const archived = (query().get("q") || "").includes(ARCHIVED);
  /** @param {string[]} q */
  const find = (q) => {
    search.value = q.join(" ");
    change({ q: search.value });
  };
  patch(
    byId("jobs-states"),
    chip("", "All", all),
    Object.entries(counts).map(([state, count]) => chip(state, state, count)),
    h(
      "button",
      {
        type: "button",
        class: "ns-chip",
        "aria-pressed": archived,
        "data-key": `archived-${words.join(" ")}`,
        onclick: () => find(archived ? words : [...words, ARCHIVED]),
      },
      "Archived",
    ),
  );
}

/** @param {number} total */
function drawEmpty(total) {
  const box = byId("jobs-empty");
  box.hidden = total > 0;
  table.hidden = total === 0;
  const narrowed = FILTERS.some((name) => query().get(name));
  fill(
    box,
    total
      ? null
      : narrowed
        ? empty(
            "No job matches",
            "Change the search or ",
            h(
              "button",
              { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => form.reset() },
              "Clear the filters",
            ),
          )
        : empty("No jobs yet", "Submit the first one:", h("code", {}, `${trainCommand("digits")} --epochs 5`)),
  );
}

/** @param {string | undefined} text */
function drawProblem(text) {
  const box = byId("jobs-problem");
  box.hidden = !text;
  box.textContent = text || "";
  text ? search.setAttribute("aria-invalid", "true") : search.removeAttribute("aria-invalid");
}

/** @param {JobsTable} answer */
function draw(answer) {
  shown = answer;
  drawProblem(answer.problem);
  const keys = chosenColumns(query());
  selection.see(answer.items);
  const text = JSON.stringify(answer) + location.search + selection.ids + keys;
  if (text === drawn) return;
  drawn = text;
  const ticks = {
    label: "",
    head: selection.all(),
    class: "ns-check",
    cell: (/** @type {JobRow} */ job) => selection.box(job),
  };
  drawStates(answer.counts, answer.more_counts);
  drawTable(table, [ticks, ...columnsOf(keys)], answer.items, {
    key: (job) => job.id,
    sort: query().get("sort") || "-created",
    onSort: (sort) => change({ sort }),
    rowClass: (job) => (selection.has(job.id) ? "ns-ticked" : ""),
  });
  drawEmpty(answer.total);
  drawPages(
    byId("jobs-pages"),
    answer.page,
    answer.pages,
    answer.total,
    "job",
    (page) => change({ page: page > 1 ? String(page) : null }),
    answer.more,
  );
  drawCompare(answer.total);
  bar.draw();
}

/** @param {number} total */
function drawCompare(total) {
  compareButton.disabled = selection.size ? selection.size < 2 || selection.size > MOST_COMPARED : total < 2;
  compareButton.textContent = selection.size ? `Compare ${selection.size}` : "Compare all";
  compareButton.title = selection.size
    ? `Up to ${MOST_COMPARED} jobs`
    : `The first ${Math.min(total, MOST_COMPARED)} that match; select jobs to compare only those`;
}

function compare() {
  if (selection.size) return `/compare?ids=${selection.ids.join(",")}`;
  const asked = new URLSearchParams({ all: "1" });
  for (const name of [...FILTERS, "sort"]) {
    const value = query().get(name);
    if (value) asked.set(name, value);
  }
  return `/compare?${asked}`;
}

function fromAddress() {
  for (const field of form.querySelectorAll("input, select")) {
    if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement)
      field.value = query().get(field.name) || "";
  }
}

let typing = 0;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", ({ target }) => {
  if (target instanceof HTMLSelectElement) change({ [target.name]: target.value });
});
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = window.setTimeout(() => change({ q: search.value.trim() }, { push: false }), 250);
});
form.addEventListener("reset", () => setTimeout(() => change(Object.fromEntries(FILTERS.map((name) => [name, ""])))));
compareButton.addEventListener("click", () => {
  location.href = url(compare());
});
table.addEventListener("click", ({ target }) => {
  if (!(target instanceof Element) || target.closest("a, input, button, .ns-check")) return;
  const row = target.closest("tbody tr")?.getAttribute("data-row");
  if (row && !getSelection()?.toString()) location.href = url(`/jobs/${row}`);
});
window.addEventListener("popstate", () => {
  fromAddress();
  updates.now();
});
search.after(
  searchHelp((example) => {
    search.value = `${search.value} ${example}`.trim();
    search.focus();
    change({ q: search.value });
  }),
);
compareButton.before(columnMenu(() => chosenColumns(query()), changeColumns));

fromAddress();
// A search that cannot be parsed shows an error; the table stays as it was.
const updates = live(async (signal) => {
  const answer = await getJson(`/jobs/data${location.search}`, signal);
  answer.problem ? drawProblem(answer.problem) : draw(answer);
});
const bar = bulkBar(byId("jobs-bulk"), selection, () => updates.now());
draw(shown);
if (!query().get("columns") && stored()) change({ columns: stored(), page: query().get("page") }, { push: false });
