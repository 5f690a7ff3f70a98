// Fields of a spec that hold several values: a list on one line, texts on lines, and choices to tick.

import { h } from "./dom.js";

/**
 * Parse a list as it is typed: "32, 64", "[32, 64]", "[]" for none, undefined if empty: then the preset's applies.
 * @param {string | undefined} items
 * @param {string} text
 */
export function listOf(items, text) {
  const trimmed = text.trim();
  if (!trimmed) return undefined;
  return trimmed
    .replace(/^\[|\]$/g, "")
    .split(",")
    .map((one) => one.trim())
    .filter(Boolean)
    .map((one) => entry(items, one));
}

/**
 * @param {string | undefined} items
 * @param {string} text
 */
function entry(items, text) {
  if (items === "boolean") return { true: true, false: false }[text.toLowerCase()] ?? text;
  if (items === "string") return text;
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : text;
}

/**
 * Return a list as text; an empty one is "[]".
 * @param {unknown} value
 */
export function listText(value) {
  if (value === undefined || value === null) return "";
  if (!Array.isArray(value)) return String(value);
  return value.length ? value.join(", ") : "[]";
}

/**
 * Return a line for a list.
 * @param {Attributes} common
 * @param {FormField} facts
 * @param {any} value
 * @param {any} usual The value that counts where the field is empty.
 * @param {(value: any) => void} set
 */
export const listInput = (common, { items }, value, usual, set) =>
  h("input", {
    ...common,
    value: listText(value),
    autocomplete: "off",
    spellcheck: "false",
    placeholder: listText(usual) || "none",
    oninput: (event) => set(listOf(items, event.target.value)),
  });

/**
 * Return a box with a text on each line.
 * @param {Attributes} common
 * @param {any} value
 * @param {any} usual
 * @param {(value: any) => void} set
 */
export function linesInput(common, value, usual, set) {
  const box = h("textarea", {
    ...common,
    rows: 2,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: Array.isArray(usual) && usual.length ? usual.join("\n") : "one per line",
    oninput: (event) => {
      const lines = event.target.value.split("\n").filter((/** @type {string} */ line) => line.trim());
      set(lines.length ? lines : undefined);
    },
  });
  box.value = Array.isArray(value) ? value.join("\n") : "";
  return box;
}

/**
 * Return a group of choices, any of which can be ticked.
 * @param {Attributes} common
 * @param {string[]} options
 * @param {any} value
 * @param {(value: any) => void} set
 */
export function ticks(common, options, value, set) {
  const chosen = new Set(Array.isArray(value) ? value : []);
  return h(
    "div",
    { id: common.id, class: "ns-options", role: "group", "aria-labelledby": `${common.id}-label`, tabindex: -1 },
    options.map((option) =>
      h(
        "label",
        { class: "ns-option" },
        h("input", {
          type: "checkbox",
          class: "form-check-input",
          "data-key": `${common.id}-${option}`,
          checked: chosen.has(option),
          onchange: (event) => {
            if (event.target.checked) chosen.add(option);
            else chosen.delete(option);
            set(options.filter((one) => chosen.has(one)));
          },
        }),
        option.replaceAll("_", " "),
      ),
    ),
  );
}
