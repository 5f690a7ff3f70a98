// Tables that are redrawn with every answer.

import { h, patch } from "./dom.js";

/**
 * Draw a table. `sort` is "name" or "-created"; `onSort` gets the next one. Rows keep their elements by `key`.
 * @template Row
 * @param {HTMLElement} element
 * @param {Column<Row>[]} columns
 * @param {Row[]} rows
 * @param {TableOptions<Row>} options
 */
export function drawTable(element, columns, rows, { key, sort = "", onSort = () => {}, rowClass = () => "" }) {
  const table = /** @type {HTMLTableElement} */ (element);
  if (!table.tHead) table.replaceChildren(h("thead", {}, h("tr", {})), h("tbody", {}));
  const body = table.tBodies[0];
  patch(
    /** @type {HTMLTableSectionElement} */ (table.tHead).rows[0],
    columns.map((column) => headCell(column, sort, onSort)),
  );
  const before = new Map([...body.rows].map((row) => [row.dataset.row, row]));
  const drawn = rows.map((row) => {
    const line = before.get(String(key(row))) || h("tr", { "data-row": key(row) });
    line.className = rowClass(row);
    patch(
      line,
      columns.map((column) => h("td", { class: column.class, "data-label": column.label || null }, column.cell(row))),
    );
    return line;
  });
  if (drawn.length !== body.rows.length || drawn.some((row, place) => body.rows[place] !== row))
    body.replaceChildren(...drawn);
}

/**
 * @param {Column<any>} column
 * @param {string} sort
 * @param {(sort: string) => void} onSort
 */
function headCell(column, sort, onSort) {
  const key = column.sort;
  if (!key) return h("th", { class: column.class, title: column.title, scope: "col" }, column.head ?? column.label);
  const [up, down] = [sort === key, sort === `-${key}`];
  const arrow = up ? " ↑" : down ? " ↓" : "";
  const press = () => onSort(down ? key : up ? `-${key}` : column.first || key);
  return h(
    "th",
    {
      class: column.class,
      title: column.title,
      scope: "col",
      "aria-sort": up ? "ascending" : down ? "descending" : "none",
    },
    h(
      "button",
      { type: "button", class: "ns-sort", "data-key": `sort-${key}`, onclick: press },
      column.label,
      h("span", { "aria-hidden": "true" }, arrow),
    ),
  );
}

/**
 * Return a number, with a plus if there are more.
 * @param {number} count
 * @param {boolean} more
 */
export function atLeast(count, more) {
  return `${count.toLocaleString("en-US")}${more ? "+" : ""}`;
}

/**
 * Draw the page links of a long table.
 * @param {Element} nav
 * @param {number} page
 * @param {number} pages
 * @param {number} total
 * @param {string} noun
 * @param {(page: number) => void} onPage
 * @param {boolean} [more] there are more than `total`
 */
export function drawPages(nav, page, pages, total, noun, onPage, more = false) {
  /**
   * @param {string} label
   * @param {number} target
   * @param {string} text
   */
  const button = (label, target, text) =>
    h(
      "button",
      {
        type: "button",
        class: "btn btn-sm btn-outline-secondary",
        "aria-label": label,
        "data-key": `${label} ${target}`,
        disabled: target < 1 || target > pages || target === page,
        onclick: () => onPage(target),
      },
      text,
    );
  patch(
    nav,
    h("span", { class: "ns-muted" }, `${atLeast(total, more)} ${noun}${total === 1 ? "" : "s"}`),
    pages > 1
      ? h(
          "span",
          { class: "ns-pages-buttons" },
          button("First page", 1, "«"),
          button("Previous page", page - 1, "‹"),
          h("span", {}, `${page.toLocaleString("en-US")} of ${pages.toLocaleString("en-US")}`),
          button("Next page", page + 1, "›"),
          button("Last page", pages, "»"),
        )
      : null,
  );
}
