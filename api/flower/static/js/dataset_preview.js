// A look at a table or at files, on the page of a data set.

import { h } from "./dom.js";
import { bytes, number } from "./format.js";
import { drawTable } from "./table.js";

/** Number of digits that a number of a column is shown with. */
const DIGITS = 5;
/** Characters of a text that is not broken into lines: a date and a time. */
const ON_A_LINE = 20;

/** @param {Cell} value */
const cell = (value) => {
  if (value === null) return h("span", { class: "ns-muted" }, "–");
  if (typeof value === "string" && value.length <= ON_A_LINE) return h("span", { class: "ns-nowrap" }, value);
  return typeof value === "number"
    ? Number(value.toPrecision(DIGITS + 2)).toLocaleString("en-US", {
        maximumSignificantDigits: DIGITS + 2,
        useGrouping: false,
      })
    : String(value);
};
/** @param {Cell} value */
const short = (value) => (typeof value === "number" ? String(Number(value.toPrecision(DIGITS))) : cell(value));

/** @param {TableColumn} column */
const distinct = ({ distinct: found, distinct_is_capped: capped }) =>
  found === null ? cell(null) : `${capped ? "over " : ""}${number(found)}`;

/** @param {TableColumn} column */
const frequent = ({ top }) =>
  (top || []).map(({ value, count }, place) => [
    place ? " · " : null,
    h("span", { class: "ns-value" }, String(value)),
    h("span", { class: "ns-muted" }, ` ${number(count)}`),
  ]);

/** @type {Column<TableColumn>[]} */
const COLUMNS = [
  { label: "Column", class: "ns-column", cell: ({ name }) => h("span", { class: "ns-name" }, name) },
  { label: "Type", class: "ns-nowrap", cell: ({ type }) => h("code", {}, type) },
  { label: "Missing", class: "ns-number", cell: ({ nulls }) => number(nulls) },
  { label: "Distinct", class: "ns-number", cell: distinct },
  { label: "Minimum", class: "ns-number", cell: ({ min }) => short(min) },
  { label: "Maximum", class: "ns-number", cell: ({ max }) => short(max) },
  { label: "Mean", class: "ns-number", cell: ({ mean }) => short(mean) },
  { label: "Most frequent", class: "ns-wide", cell: (column) => (column.top?.length ? frequent(column) : cell(null)) },
];

/**
 * @param {string} title
 * @param {string} note
 * @param {HTMLElement} table
 */
const card = (title, note, table) =>
  h(
    "section",
    { class: "ns-card", "aria-label": title },
    h("div", { class: "ns-card-head" }, h("h2", {}, title), h("span", { class: "ns-muted" }, note)),
    h("div", { class: "ns-scroll", tabindex: 0, role: "region", "aria-label": `${title}, table` }, table),
  );

/** Columns that are named in a line of the report. */
const MOST_NAMED = 20;

/** @param {string[]} parts */
const listed = (parts) =>
  parts.slice(0, MOST_NAMED).join(" · ") +
  (parts.length > MOST_NAMED ? ` · ${number(parts.length - MOST_NAMED)} more` : "");

/**
 * @param {CleaningReport} report
 * @param {TableColumn[]} columns
 * @returns {{ what: string; found: string; where: string }[]}
 */
function findings(report, columns) {
  const of = new Map(columns.map((column) => [column.name, column]));
  const outliers = report.with_outliers.map((name) => {
    const { count, low, high } = of.get(name)?.outliers ?? { count: 0, low: 0, high: 0 };
    return `${name}: ${number(count)} outside ${short(low)} … ${short(high)}`;
  });
  const texts = report.not_numbers.map((name) => {
    const { value, row, line } = of.get(name)?.not_numbers ?? { value: "", row: 0, line: null };
    return `${name}: ${line === null ? `row ${number(row)}` : `line ${number(line)}`} has “${value}”`;
  });
  const { duplicates } = report;
  const compared = duplicates && `of ${number(duplicates.of)} compared`;
  return [
    { what: "Missing values", found: number(report.missing), where: listed(report.with_missing) },
    { what: "Duplicate rows", found: duplicates ? number(duplicates.count) : "–", where: compared || "not compared" },
    { what: "Empty columns", found: number(report.empty.length), where: listed(report.empty) },
    { what: "Constant columns", found: number(report.constant.length), where: listed(report.constant) },
    { what: "Outliers", found: number(report.outliers), where: listed(outliers) },
    { what: "Text that is nearly numbers", found: number(report.not_numbers.length), where: listed(texts) },
  ];
}

/**
 * @param {CleaningReport} report
 * @param {TableColumn[]} columns
 */
function cleaningCard(report, columns) {
  const table = h("table", { class: "ns-table", id: "dataset-cleaning" });
  drawTable(
    table,
    [
      { label: "Finding", class: "ns-nowrap", cell: ({ what }) => what },
      { label: "Count", class: "ns-number", cell: ({ found }) => found },
      { label: "Where", class: "ns-wide", cell: ({ where }) => where },
    ],
    findings(report, columns),
    { key: ({ what }) => what },
  );
  return card("Cleaning", "outliers: beyond 1.5 times the middle half", table);
}

/** @param {TablePreview} preview */
function tableCards({ columns, column_count: all, rows, report }) {
  const facts = h("table", { class: "ns-table ns-labelled", id: "dataset-columns" });
  drawTable(facts, COLUMNS, columns, { key: ({ name }) => name });
  const first = h("table", { class: "ns-table", id: "dataset-rows" });
  drawTable(
    first,
    columns.map(({ name, mean }, place) => ({
      label: name,
      class: mean === null ? "ns-cell" : "ns-number",
      cell: (/** @type {Cell[]} */ row) => cell(row[place]),
    })),
    rows,
    { key: (row) => rows.indexOf(row) },
  );
  const shown = columns.length < all ? `the first ${number(columns.length)} of ${number(all)}` : "over all rows";
  const cleaning = report ? [cleaningCard(report, columns)] : [];
  return [card("Columns", shown, facts), ...cleaning, card("First rows", `${rows.length} rows`, first)];
}

/**
 * @param {FilesPreview} preview
 * @param {number} all
 */
function fileCards({ files }, all) {
  const table = h("table", { class: "ns-table", id: "dataset-files" });
  drawTable(
    table,
    [
      { label: "File", class: "ns-path", cell: ({ path }) => path },
      { label: "Size", class: "ns-number", cell: ({ size_bytes: size }) => bytes(size) },
    ],
    files,
    { key: ({ path }) => path },
  );
  return [card("Files", files.length < all ? `the first ${number(files.length)} of ${number(all)}` : "", table)];
}

/**
 * Return the cards that show what a version holds; none for images and text, which have a sample.
 * @param {TablePreview | FilesPreview | null} preview
 * @param {number} count of its rows or files
 */
export function previewCards(preview, count) {
  if (!preview) return [];
  return "columns" in preview ? tableCards(preview) : fileCards(preview, count);
}
