// Rows that are ticked: one by one, a stretch with Shift, all of the page. They stay ticked on other pages.

import { h } from "./dom.js";

export class Selection {
  /** `change` is called after each change. */
  constructor(change) {
    this.chosen = new Map();
    this.rows = [];
    this.last = null;
    this.change = change;
  }

  get ids() { return [...this.chosen.keys()]; }
  get jobs() { return [...this.chosen.values()]; }
  get size() { return this.chosen.size; }
  has(id) { return this.chosen.has(id); }

  /** The rows that are shown now; what is known of ticked ones is brought up to date. */
  see(rows) {
    this.rows = rows;
    for (const row of rows) if (this.chosen.has(row.id)) this.chosen.set(row.id, row);
  }

  clear() {
    this.chosen.clear();
    this.last = null;
    this.change();
  }

  forget(ids) {
    for (const id of ids) this.chosen.delete(id);
    this.change();
  }

  set(rows, ticked) {
    for (const row of rows) ticked ? this.chosen.set(row.id, row) : this.chosen.delete(row.id);
    this.change();
  }

  /** The ticked row and, with Shift, all from the one ticked before. */
  tick(row, ticked, stretch) {
    const [here, before] = [row.id, this.last].map((id) => this.rows.findIndex((one) => one.id === id));
    const rows = stretch && before >= 0 ? this.rows.slice(Math.min(here, before), Math.max(here, before) + 1) : [row];
    this.last = row.id;
    this.set(rows, ticked);
  }

  box(row) {
    return h("input", {
      type: "checkbox", class: "form-check-input", "data-key": `choose-${row.id}`, checked: this.has(row.id), "aria-label": `Choose ${row.name || row.id}`,
      onclick: (event) => this.tick(row, event.target.checked, event.shiftKey),
    });
  }

  /** For the head of the column: all rows of the page. */
  all() {
    const count = this.rows.filter((row) => this.has(row.id)).length;
    const box = h("input", {
      type: "checkbox", class: "form-check-input", "data-key": "choose-all", "data-count": `${count}/${this.rows.length}`, checked: count > 0 && count === this.rows.length,
      "aria-label": "Choose all on this page", onclick: (event) => this.set(this.rows, event.target.checked),
    });
    box.indeterminate = count > 0 && count < this.rows.length;
    return box;
  }
}
