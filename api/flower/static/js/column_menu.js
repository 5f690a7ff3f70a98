// The menu that chooses columns: a search, and what there is by group.

import { fill, h } from "./dom.js";
import { DEFAULT, FIELDS, isRemovable, label } from "./job_columns.js";
import { menu } from "./menu.js";
import { getJson } from "./site.js";

const GROUPS = [["metrics", "Results and metrics"], ["best", "Best of a curve"], ["settings", "Settings"], ["tags", "Tags"]];

/** columnMenu(() => keys, (keys) => …) -> element */
export function columnMenu(chosen, change) {
  let offered = null;

  async function draw(box) {
    try {
      offered = await getJson("/jobs/columns");
    } catch (error) {
      fill(box, h("p", { class: "ns-muted" }, error.message));
      return;
    }
    const list = h("div", { class: "ns-menu-list" });
    const search = h("input", { type: "search", class: "form-control form-control-sm", placeholder: "Find a column", "aria-label": "Find a column", autocomplete: "off", oninput: () => show(list, search.value) });
    fill(box, search, list, h("button", { type: "button", class: "btn btn-sm btn-outline-secondary", onclick: () => { change(DEFAULT); show(list, search.value); } }, "As at first"));
    show(list, "");
  }

  function show(list, words) {
    const wanted = words.trim().toLowerCase().replaceAll("_", " ");
    const groups = [["Columns", Object.keys(FIELDS)], ...GROUPS.map(([name, title]) => [title, offered[name] || []])];
    const found = groups.map(([title, keys]) => [title, keys.filter((key) => `${label(key)} ${key}`.toLowerCase().replaceAll("_", " ").includes(wanted))]).filter(([, keys]) => keys.length);
    fill(list, found.length ? found.map(([title, keys]) => h("fieldset", {}, h("legend", {}, title), keys.map((key) => choice(key)))) : h("p", { class: "ns-muted" }, "No column has this name yet."));
  }

  function choice(key) {
    const toggle = (event) => change(event.target.checked ? [...chosen(), key] : chosen().filter((one) => one !== key));
    return h("label", { title: key }, h("input", { type: "checkbox", class: "form-check-input", "data-key": `column-${key}`, checked: chosen().includes(key), disabled: !isRemovable(key), onchange: toggle }), ` ${label(key)}`);
  }

  return menu("Columns", draw, { wide: true }).element;
}
