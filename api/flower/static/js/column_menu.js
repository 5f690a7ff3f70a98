// The menu of columns: a search and the available columns by group.

import { fill, h } from "./dom.js";
import { DEFAULT, FIELDS, isRemovable, label } from "./job_columns.js";
import { menu } from "./menu.js";
import { getJson, said } from "./site.js";

const GROUPS = [
  ["metrics", "Results and metrics"],
  ["best", "Best of a curve"],
  ["settings", "Settings"],
  ["tags", "Tags"],
];

/** @type {(title: string, keys: string[]) => [string, string[]]} */
const pair = (title, keys) => [title, keys];

/**
 * Return the menu as an element.
 * @param {() => string[]} chosen
 * @param {(keys: string[]) => void} change
 */
export function columnMenu(chosen, change) {
  /** @type {Record<string, string[]>} */
  let offered = {};

  /** @param {HTMLElement} box */
  async function draw(box) {
    try {
      offered = await getJson("/jobs/columns");
    } catch (error) {
      fill(box, h("p", { class: "ns-muted" }, said(error)));
      return;
    }
    const list = h("div", { class: "ns-menu-list" });
    const search = h("input", {
      type: "search",
      class: "form-control form-control-sm",
      placeholder: "Find a column",
      "aria-label": "Find a column",
      autocomplete: "off",
      oninput: (event) => show(list, event.target.value),
    });
    fill(
      box,
      search,
      list,
      h(
        "button",
        {
          type: "button",
          class: "btn btn-sm btn-outline-secondary",
          onclick: () => {
            change(DEFAULT);
            show(list, search.value);
          },
        },
        "Reset",
      ),
    );
    show(list, "");
  }

  /**
   * @param {HTMLElement} list
   * @param {string} words
   */
  function show(list, words) {
    const wanted = words.trim().toLowerCase().replaceAll("_", " ");
    /** @type {[string, string[]][]} */
    const groups = [
      ["Columns", Object.keys(FIELDS)],
      ...GROUPS.map(([name, title]) => pair(title, offered[name] || [])),
    ];
    /** @type {[string, string[]][]} */
    const found = groups
      .map(([title, keys]) =>
        pair(
          title,
          keys.filter((key) => `${label(key)} ${key}`.toLowerCase().replaceAll("_", " ").includes(wanted)),
        ),
      )
      .filter(([, keys]) => keys.length);
    fill(
      list,
      found.length
        ? found.map(([title, keys]) =>
            h(
              "fieldset",
              {},
              h("legend", {}, title),
              keys.map((key) => choice(key)),
            ),
          )
        : h("p", { class: "ns-muted" }, "No column has this name yet."),
    );
  }

  /** @param {string} key */
  function choice(key) {
    /** @param {{ target: HTMLInputElement }} event */
    const toggle = (event) => change(event.target.checked ? [...chosen(), key] : chosen().filter((one) => one !== key));
    return h(
      "label",
      { title: key },
      h("input", {
        type: "checkbox",
        class: "form-check-input",
        "data-key": `column-${key}`,
        checked: chosen().includes(key),
        disabled: !isRemovable(key),
        onchange: toggle,
      }),
      ` ${label(key)}`,
    );
  }

  return menu("Columns", draw, { wide: true }).element;
}
