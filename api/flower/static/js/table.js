// Tables that are drawn again with every answer: columns {key, label, sort?, class?, cell(row)}.

import { h, patch } from "./dom.js";

/** `sort` is "-created" or "name"; `onSort` gets the next one. A row stays the element that its `key(row)` had before. */
export function drawTable(table, columns, rows, { key, sort = "", onSort = null, rowClass = null } = {}) {
  if (!table.tHead) table.replaceChildren(h("thead", {}, h("tr", {})), h("tbody", {}));
  const body = table.tBodies[0];
  patch(table.tHead.rows[0], columns.map((column) => headCell(column, sort, onSort)));
  const before = new Map([...body.rows].map((row) => [row.dataset.row, row]));
  const drawn = rows.map((row) => {
    const element = before.get(String(key(row))) || h("tr", { "data-row": key(row) });
    element.className = rowClass?.(row) || "";
    patch(element, columns.map((column) => h("td", { class: column.class, "data-label": column.label || null }, column.cell(row))));
    return element;
  });
  if (drawn.length !== body.rows.length || drawn.some((row, place) => body.rows[place] !== row)) body.replaceChildren(...drawn);
}

function headCell(column, sort, onSort) {
  if (!column.sort) return h("th", { class: column.class, title: column.title, scope: "col" }, column.head ?? column.label);
  const [up, down] = [sort === column.sort, sort === `-${column.sort}`];
  const arrow = up ? " ↑" : down ? " ↓" : "";
  const press = () => onSort(down ? column.sort : up ? `-${column.sort}` : column.first || column.sort);
  return h("th", { class: column.class, title: column.title, scope: "col", "aria-sort": up ? "ascending" : down ? "descending" : "none" },
    h("button", { type: "button", class: "ns-sort", "data-key": `sort-${column.sort}`, onclick: press }, column.label, h("span", { "aria-hidden": "true" }, arrow)));
}

/** Links to the pages of a long table. */
export function drawPages(nav, page, pages, total, noun, onPage) {
  const button = (label, target, text) =>
    h("button", { type: "button", class: "btn btn-sm btn-outline-secondary", "aria-label": label, "data-key": `${label} ${target}`, disabled: target < 1 || target > pages || target === page, onclick: () => onPage(target) }, text);
  patch(nav,
    h("span", { class: "ns-muted" }, `${total.toLocaleString("en-US")} ${noun}${total === 1 ? "" : "s"}`),
    pages > 1 ? h("span", { class: "ns-pages-buttons" },
      button("First page", 1, "«"), button("Previous page", page - 1, "‹"),
      h("span", {}, `${page.toLocaleString("en-US")} of ${pages.toLocaleString("en-US")}`),
      button("Next page", page + 1, "›"), button("Last page", pages, "»")) : null);
}
