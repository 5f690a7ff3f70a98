// A spec as form fields: what is shown for a value, and what a text typed there means. What is right, the server says.

import { h } from "./dom.js";

/** at(spec, "training.epochs") */
export const at = (spec, path) => path.split(".").reduce((value, name) => (value === null || value === undefined ? undefined : value[name]), spec);

/** A copy of `spec` with `value` at `path`; undefined takes the field out, so that its default counts. */
export function put(spec, path, value) {
  const [name, ...rest] = path.split(".");
  const copy = { ...spec };
  if (!rest.length) copy[name] = value;
  else copy[name] = put(copy[name] || {}, rest.join("."), value);
  if (copy[name] === undefined || (rest.length && !Object.keys(copy[name]).length)) delete copy[name];
  return copy;
}

/** What was typed: a number where it is one, tags as an object, nothing for an empty field; else the text itself. */
export function meaning(type, text) {
  const trimmed = text.trim();
  if (!trimmed) return undefined;
  if (type === "tags") return Object.fromEntries(trimmed.split(",").map((pair) => pair.trim()).filter(Boolean).map((pair) => { const [key, ...value] = pair.split("="); return [key.trim(), value.join("=").trim()]; }));
  if (type === "integer" || type === "number") return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(trimmed) ? Number(trimmed) : trimmed;
  return trimmed;
}

export function asText(type, value) {
  if (value === undefined || value === null) return "";
  if (type === "tags") return Object.entries(value).map(([key, one]) => `${key}=${one}`).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const label = (path) => ({ name: "Name", tags: "Tags", register_as: "Register as", "model.framework": "Framework" }[path] || path.split(".").at(-1).replaceAll("_", " "));

const limits = ({ minimum, maximum, exclusiveMinimum, exclusiveMaximum, description }) => [
  description,
  [[">", exclusiveMinimum], ["≥", minimum], ["<", exclusiveMaximum], ["≤", maximum]].filter(([, limit]) => limit !== undefined).map(([sign, limit]) => `${sign} ${limit.toLocaleString("en-US")}`).join(", "),
].filter(Boolean).join(" ");

/** One field: its label, its input and the place for what is wrong with it. `set` gets each new value. */
export function field({ path, type, enum: options, list, title, hint, ...facts }, value, usual, set, error) {
  const id = `field-${path}`;
  const common = { id, name: path, "data-key": id, "aria-invalid": error ? "true" : null, "aria-describedby": error ? `${id}-error` : null, title: hint === undefined ? limits(facts) || null : null };
  const input = options ? select(common, options, value ?? usual, set)
    : type === "boolean" ? h("input", { ...common, type: "checkbox", class: "form-check-input", checked: value ?? usual ?? false, onchange: (event) => set(event.target.checked) })
    : h("input", { ...common, class: `form-control${error ? " is-invalid" : ""}`, value: asText(type, value), autocomplete: "off", spellcheck: "false", list,
      inputmode: type === "integer" ? "numeric" : type === "number" ? "decimal" : null,
      placeholder: type === "tags" ? "team=vision, owner=me" : value === null || usual === null || usual === undefined ? "none" : asText(type, usual),
      oninput: (event) => set(meaning(type, event.target.value)) });
  return h("div", { class: `ns-field${type === "boolean" ? " ns-field-check" : ""}`, "data-path": path },
    h("label", { for: id }, title || label(path)), input,
    hint ? h("span", { class: "ns-sub" }, hint) : null,
    h("span", { class: "ns-error", id: `${id}-error` }, error || null));
}

const select = (common, options, value, set) => h("select", { ...common, class: "form-select", onchange: (event) => set(event.target.value) },
  options.map((option) => h("option", { value: option, selected: option === value }, option)));
