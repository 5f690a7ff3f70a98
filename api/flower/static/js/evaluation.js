// The tables of an evaluation: figures per class or entity, and rows to read, whatever the family calls them.

import { byId, fill, h } from "./dom.js";
import { number, words } from "./format.js";
import { getJson, said } from "./site.js";

/** Rows of a table that are shown. */
const MOST = 50;
/** The artifact that an evaluation is written to. */
export const FILE = "evaluation.json";

/** @param {unknown} value */
const isRow = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * Return the tables in a document: each of its lists of objects.
 * @param {Record<string, unknown>} document
 * @returns {[string, Record<string, unknown>[]][]}
 */
export const tablesIn = (document) =>
  Object.entries(document).flatMap(([name, value]) =>
    Array.isArray(value) && value.length && value.every(isRow) ? [[name, value]] : [],
  );

/**
 * @param {unknown} value
 * @returns {string}
 */
function cell(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) return value.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join(" ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/**
 * @param {string} name
 * @param {Record<string, unknown>[]} rows
 */
function tableOf(name, rows) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const isNumber = (/** @type {string} */ column) => rows.every((row) => typeof (row[column] ?? 0) === "number");
  const right = new Set(columns.filter(isNumber));
  /** @param {string} column */
  const side = (column) => (right.has(column) ? "ns-number" : null);
  return h(
    "div",
    { class: "ns-evaluated" },
    h("h3", {}, words(name)),
    h(
      "div",
      { class: "ns-scroll", tabindex: 0, role: "region", "aria-label": words(name) },
      h(
        "table",
        { class: "ns-table" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            columns.map((column) => h("th", { scope: "col", class: side(column) }, words(column))),
          ),
        ),
        h(
          "tbody",
          {},
          rows.slice(0, MOST).map((row) =>
            h(
              "tr",
              {},
              columns.map((column) => h("td", { class: side(column) }, cell(row[column]))),
            ),
          ),
        ),
      ),
    ),
    rows.length > MOST ? h("p", { class: "ns-muted" }, `${rows.length - MOST} more in ${FILE}`) : null,
  );
}

/**
 * Draw the tables of a job's evaluation when its card is opened.
 * @param {string} job
 */
export function evaluationOf(job) {
  const [card, box] = [/** @type {HTMLDetailsElement} */ (byId("evaluation-card")), byId("evaluation")];
  let drawn = false;
  card.addEventListener("toggle", async () => {
    if (!card.open || drawn) return;
    drawn = true;
    try {
      const tables = tablesIn(await getJson(`/jobs/${job}/files/${FILE}`));
      fill(
        box,
        tables.length
          ? tables.map(([name, rows]) => tableOf(name, rows))
          : h("p", { class: "ns-muted" }, `${FILE} has no tables.`),
      );
    } catch (error) {
      drawn = false;
      fill(box, h("p", { class: "ns-muted" }, said(error)));
    }
  });
}
