// Selected rows: one, a range with Shift, or the whole page. They stay selected on other pages.

import { h } from "./dom.js";

export class Selection {
  /**
   * `change` is called after each change.
   * @param {() => void} change
   */
  constructor(change) {
    /** @type {Map<string, JobRow>} */
    this.chosen = new Map();
    /** @type {JobRow[]} */
    this.rows = [];
    /** @type {string | null} */
    this.last = null;
    this.change = change;
  }

  get ids() {
    return [...this.chosen.keys()];
  }
  get jobs() {
    return [...this.chosen.values()];
  }
  get size() {
    return this.chosen.size;
  }
  /** @param {string} id */
  has(id) {
    return this.chosen.has(id);
  }

  /**
   * Set the rows shown now and update the selected ones among them.
   * @param {JobRow[]} rows
   */
  see(rows) {
    this.rows = rows;
    for (const row of rows) if (this.chosen.has(row.id)) this.chosen.set(row.id, row);
  }

  clear() {
    this.chosen.clear();
    this.last = null;
    this.change();
  }

  /** @param {string[]} ids */
  forget(ids) {
    for (const id of ids) this.chosen.delete(id);
    this.change();
  }

  /**
   * @param {JobRow[]} rows
   * @param {boolean} ticked
   */
  set(rows, ticked) {
    for (const row of rows) ticked ? this.chosen.set(row.id, row) : this.chosen.delete(row.id);
    this.change();
  }

  /**
   * Select a row or, with Shift, the range from the last one.
   * @param {JobRow} row
   * @param {boolean} ticked
   * @param {boolean} stretch
   */
  tick(row, ticked, stretch) {
    const [here, before] = [row.id, this.last].map((id) => this.rows.findIndex((one) => one.id === id));
    const rows = stretch && before >= 0 ? this.rows.slice(Math.min(here, before), Math.max(here, before) + 1) : [row];
    this.last = row.id;
    this.set(rows, ticked);
  }

  /** @param {JobRow} row */
  box(row) {
    return h("input", {
      type: "checkbox",
      class: "form-check-input",
      "data-key": `choose-${row.id}`,
      checked: this.has(row.id),
      "aria-label": `Select ${row.name || row.id}`,
      onclick: (event) => this.tick(row, event.target.checked, event.shiftKey),
    });
  }

  /** Return the checkbox for all rows of the page. */
  all() {
    const count = this.rows.filter((row) => this.has(row.id)).length;
    const box = h("input", {
      type: "checkbox",
      class: "form-check-input",
      "data-key": "choose-all",
      "data-count": `${count}/${this.rows.length}`,
      checked: count > 0 && count === this.rows.length,
      "aria-label": "Select all on this page",
      onclick: (event) => this.set(this.rows, event.target.checked),
    });
    box.indeterminate = count > 0 && count < this.rows.length;
    return box;
  }
}
