// A spec as form fields: values to text and back. The server validates.

import { h } from "./dom.js";
import { linesInput, listInput, ticks } from "./spec_lists.js";

/**
 * at(spec, "training.epochs")
 * @param {Spec} spec
 * @param {string} path
 * @returns {any}
 */
export const at = (spec, path) =>
  path.split(".").reduce((value, name) => (value === null || value === undefined ? undefined : value[name]), spec);

/**
 * A copy of `spec` with `value` at `path`; undefined removes the field, so that its default applies.
 * @param {Spec} spec
 * @param {string} path
 * @param {unknown} value
 */
export function put(spec, path, value) {
  const [name, ...rest] = path.split(".");
  const copy = { ...spec };
  if (!rest.length) copy[name] = value;
  else copy[name] = put(copy[name] || {}, rest.join("."), value);
  if (copy[name] === undefined || (rest.length && !Object.keys(copy[name]).length)) delete copy[name];
  return copy;
}

/**
 * Parse a typed text: numbers (a `count` may be a word), tags as an object, names as a list, undefined if empty; else
 * the text itself.
 * @param {string | undefined} type
 * @param {string} text
 * @returns {any}
 */
export function meaning(type, text) {
  const trimmed = text.trim();
  if (!trimmed) return undefined;
  if (type === "tags")
    return Object.fromEntries(
      trimmed
        .split(",")
        .map((pair) => pair.trim())
        .filter(Boolean)
        .map((pair) => {
          const [key, ...value] = pair.split("=");
          return [key.trim(), value.join("=").trim()];
        }),
    );
  if (type === "names")
    return trimmed
      .split(",")
      .map((name) => name.trim())
      .filter(Boolean);
  if (type === "integer" || type === "number" || type === "count")
    return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(trimmed) ? Number(trimmed) : trimmed;
  return trimmed;
}

/**
 * @param {string | undefined} type
 * @param {unknown} value
 */
export function asText(type, value) {
  if (value === undefined || value === null) return "";
  if (type === "tags")
    return Object.entries(value)
      .map(([key, one]) => `${key}=${one}`)
      .join(", ");
  if (type === "names" && Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** @type {Record<string, string>} */
const LABELS = { name: "Name", tags: "Tags", register_as: "Register as", "model.framework": "Framework" };
/** @param {string} path */
const label = (path) => LABELS[path] || path.replace(/^.*\./, "").replaceAll("_", " ");

/** @param {Partial<FormField>} field */
const limits = ({ minimum, maximum, exclusiveMinimum, exclusiveMaximum, description }) =>
  [
    description,
    [
      [">", exclusiveMinimum],
      ["≥", minimum],
      ["<", exclusiveMaximum],
      ["≤", maximum],
    ]
      .flatMap(([sign, limit]) => (limit === undefined ? [] : `${sign} ${limit.toLocaleString("en-US")}`))
      .join(", "),
  ]
    .filter(Boolean)
    .join(" ");

/**
 * Return a field: label, input, place for its error. `set` gets each new value.
 * @param {FormField} facts
 * @param {any} value
 * @param {any} usual The value that counts where the field is empty.
 * @param {(value: any) => void} set
 * @param {string} [error]
 */
export function field({ title, hint, ...facts }, value, usual, set, error) {
  const { path, type } = facts;
  const id = `field-${path}`;
  const common = {
    id,
    name: path,
    "data-key": id,
    "aria-invalid": error ? "true" : null,
    "aria-describedby": error ? `${id}-error` : null,
    class: `form-control${error ? " is-invalid" : ""}`,
    title: hint === undefined ? limits({ ...facts.entries, ...facts }) || null : null,
  };
  return h(
    "div",
    { class: `ns-field${type === "boolean" ? " ns-field-check" : ""}`, "data-path": path },
    h("label", { for: id, id: `${id}-label` }, title || label(path)),
    inputOf(common, facts, value, usual, set),
    hint ? h("span", { class: "ns-sub" }, hint) : null,
    h("span", { class: "ns-error", id: `${id}-error` }, error || null),
  );
}

/**
 * @param {Attributes} common
 * @param {FormField} facts
 * @param {any} value
 * @param {any} usual
 * @param {(value: any) => void} set
 */
function inputOf(common, facts, value, usual, set) {
  if (facts.options) return ticks(common, facts.options, value ?? usual, set);
  if (facts.enum) return select(common, facts, value === undefined ? usual : value, set);
  if (facts.type === "list") return listInput(common, facts, value, usual, set);
  if (facts.type === "lines") return linesInput(common, value, usual, set);
  if (facts.type === "boolean") return checkbox(common, value ?? usual ?? false, set);
  return textInput(common, facts, value, usual, set);
}

/**
 * @param {Attributes} common
 * @param {boolean} checked
 * @param {(value: boolean) => void} set
 */
const checkbox = (common, checked, set) =>
  h("input", {
    ...common,
    type: "checkbox",
    class: "form-check-input",
    checked,
    onchange: (event) => set(event.target.checked),
  });

/** @param {string} text */
const isNone = (text) => text.trim().toLowerCase() === "none";

/** @type {Record<string, string>} */
const KEYBOARDS = { integer: "numeric", number: "decimal" };

/**
 * @param {Attributes} common
 * @param {FormField} facts
 * @param {any} value
 * @param {any} usual
 * @param {(value: any) => void} set
 */
function textInput(common, { type, list, nullable, by }, value, usual, set) {
  const canBeNone = nullable && !by; // null of a field whose default follows from another one is that default
  return h("input", {
    ...common,
    value: value === null && canBeNone && (usual ?? null) !== null ? "none" : asText(type, value),
    autocomplete: "off",
    spellcheck: "false",
    list,
    inputmode: KEYBOARDS[type ?? ""],
    placeholder: placeholder(type, by ? undefined : value, usual),
    oninput: (event) => set(canBeNone && isNone(event.target.value) ? null : meaning(type, event.target.value)),
  });
}

/**
 * @param {string | undefined} type
 * @param {unknown} value
 * @param {unknown} usual
 */
function placeholder(type, value, usual) {
  if (type === "tags") return "team=vision, owner=me";
  return value === null || usual === null || usual === undefined ? "none" : asText(type, usual);
}

/**
 * Return a choice; of one that may be null, "none" is the first.
 * @param {Attributes} common
 * @param {FormField} facts
 * @param {unknown} value
 * @param {(value: any) => void} set
 */
const select = (common, { enum: options = [], nullable }, value, set) =>
  h(
    "select",
    {
      ...common,
      class: "form-select",
      onchange: (event) => set(options.find((option) => String(option) === event.target.value) ?? null),
    },
    nullable ? h("option", { value: "", selected: value === null || value === undefined }, "none") : null,
    options.map((option) => h("option", { value: option, selected: option === value }, option)),
  );
