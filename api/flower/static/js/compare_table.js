// The table of jobs that are compared: a row or a column per job, sorted by any value, the best of each marked.

import { bestOf, orderBy, short, title } from "./compare_values.js";
import { fill, h, patch } from "./dom.js";
import { stateBadge } from "./parts.js";
import { url } from "./site.js";

/** Up to this many jobs are columns by default, more are rows. */
const BESIDE = 4;

/**
 * Draw the table; `view` has `by`, `layout` and `every` from the address.
 * @param {Element} table
 * @param {Element} tools
 * @param {ComparedJob[]} jobs
 * @param {CompareColumn[]} columns
 * @param {View} view
 * @param {CompareTools} compared
 */
export function drawCompareTable(table, tools, jobs, columns, view, { change, mark }) {
  const shown = columns.filter(
    (column) =>
      column.key !== "name" && (view.every || jobs.length < 2 || column.differs || column.group === "results"),
  );
  const by = columns.find((column) => column.key === view.by?.replace(/^-/, ""));
  const order = by ? orderBy(by, view.by?.startsWith("-") ?? false) : jobs.map((_, place) => place);
  const asRows = view.layout ? view.layout === "rows" : jobs.length > BESIDE;
  /** @param {CompareColumn} column */
  const head = (column) => sortButton(column, view.by, (next) => change({ by: next }));
  const body = asRows ? rowsOf : columnsOf;
  patch(table, ...body(jobs, shown, order, head, mark));
  fill(
    tools,
    h(
      "label",
      { class: "ns-tool" },
      h("input", {
        type: "checkbox",
        class: "form-check-input",
        "data-key": "differs",
        checked: !view.every,
        onchange: (event) => change({ every: event.target.checked ? null : "1" }),
      }),
      "Only differences",
    ),
    h(
      "button",
      {
        type: "button",
        class: "btn btn-sm btn-outline-secondary",
        "data-key": "turn",
        onclick: () => change({ layout: asRows ? "columns" : "rows" }),
      },
      asRows ? "One column per job" : "One row per job",
    ),
  );
}

/**
 * @param {CompareColumn} column
 * @param {string | undefined} by
 * @param {(next: string | null) => void} sort
 */
function sortButton(column, by, sort) {
  const [up, down] = [by === column.key, by === `-${column.key}`];
  const first = column.sense === "max" ? `-${column.key}` : column.key;
  const next = up
    ? first === column.key
      ? `-${column.key}`
      : null
    : down
      ? first === column.key
        ? null
        : column.key
      : first;
  return h(
    "button",
    {
      type: "button",
      class: "ns-sort",
      title: column.key,
      "data-key": `by-${column.key}-${by || ""}`,
      onclick: () => sort(next),
    },
    breakable(column.label),
    h("span", { "aria-hidden": "true" }, up ? " ↑" : down ? " ↓" : ""),
  );
}

/**
 * Allow line breaks in `training.learning_rate` after dots and underscores.
 * @param {string} label
 */
const breakable = (label) => label.split(/(?<=[._])/).map((part) => [h("wbr", {}), part]);

/**
 * @param {ComparedJob} job
 * @param {number} place
 * @param {CompareTools["mark"]} mark
 */
const jobLink = (job, place, mark) => [
  h("span", { class: "ns-dot", style: { color: mark(place) } }),
  " ",
  h("a", { class: "ns-name", href: url(`/jobs/${job.id}`), "data-key": `job-${job.id}` }, title(job)),
  h("span", { class: "ns-sub" }, h("code", {}, job.id.slice(0, 8))),
];

/**
 * @param {CompareColumn} column
 * @param {number} place
 * @param {ComparedJob[]} jobs
 * @param {number[]} best
 * @param {boolean} differs
 */
function cell(column, place, jobs, best, differs) {
  const isBest = best.includes(place);
  const value = column.key === "state" ? stateBadge(jobs[place].state) : column.text(column.values[place]);
  const mine = [column.numeric ? "ns-number" : null, isBest ? "ns-best" : null, differs ? "ns-differs-cell" : null]
    .filter(Boolean)
    .join(" ");
  return h(
    "td",
    { class: mine || null, "data-job": jobs[place].id },
    value,
    isBest ? h("span", { class: "visually-hidden" }, " best") : null,
  );
}

/**
 * Return whether the setting of a job differs from that of most jobs.
 * @param {CompareColumn} column
 * @returns {(place: number) => boolean}
 */
const unusual = (column) => {
  if (column.group !== "settings" || !column.differs) return () => false;
  const count = new Map();
  const keys = column.values.map((value) => JSON.stringify(value) ?? "");
  for (const key of keys) count.set(key, (count.get(key) || 0) + 1);
  const usual = [...count].sort((a, b) => b[1] - a[1])[0];
  return (place) => usual[1] <= keys.length / 2 || keys[place] !== usual[0];
};

/**
 * @param {ComparedJob[]} jobs
 * @param {CompareColumn[]} columns
 * @param {number[]} order
 * @param {(column: CompareColumn) => Child} head
 * @param {CompareTools["mark"]} mark
 */
function rowsOf(jobs, columns, order, head, mark) {
  const parts = columns.map((column) => ({ column, best: bestOf(column), odd: unusual(column) }));
  return [
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Job"),
        columns.map((column) => h("th", { scope: "col", class: column.numeric ? "ns-number" : null }, head(column))),
      ),
    ),
    h(
      "tbody",
      {},
      order.map((place) =>
        h(
          "tr",
          { "data-job": jobs[place].id },
          h("th", { scope: "row" }, jobLink(jobs[place], place, mark)),
          parts.map(({ column, best, odd }) => cell(column, place, jobs, best, odd(place))),
        ),
      ),
    ),
  ];
}

/**
 * @param {ComparedJob[]} jobs
 * @param {CompareColumn[]} columns
 * @param {number[]} order
 * @param {(column: CompareColumn) => Child} head
 * @param {CompareTools["mark"]} mark
 */
function columnsOf(jobs, columns, order, head, mark) {
  return [
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, ""),
        order.map((place) =>
          h(
            "th",
            { scope: "col", "data-job": jobs[place].id, title: short(jobs[place]) },
            jobLink(jobs[place], place, mark),
          ),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      columns.map((column) => {
        const [best, odd] = [bestOf(column), unusual(column)];
        return h(
          "tr",
          {},
          h("th", { scope: "row" }, head(column)),
          order.map((place) => cell(column, place, jobs, best, odd(place))),
        );
      }),
    ),
  ];
}
