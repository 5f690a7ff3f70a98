// A dialog that asks for a few values before something is done.

import { h } from "./dom.js";

/**
 * ask("Roll back?", "what it means", [{name, label, value?, options?, lines?, max?, required?, pattern?, hint?}], "Roll back")
 * resolves to {name: value}, or to null after Escape or "Go back". `options` [[value, label]] make a choice of a field.
 */
export function ask(title, detail, fields, action) {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog" },
      h("h2", { id: "ns-question" }, title),
      h("p", {}, detail),
      fields.map(field),
      h("div", { class: "ns-buttons" },
        h("button", { class: "btn btn-outline-secondary", value: "no", formnovalidate: true }, "Go back"),
        h("button", { class: "btn btn-primary", value: "yes" }, action)));
    const dialog = h("dialog", { class: "ns-dialog", "aria-labelledby": "ns-question" }, form);
    // Enter in a field presses the first button of a form, which would be "Go back".
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
      event.preventDefault();
      if (form.reportValidity()) dialog.close("yes");
    });
    dialog.addEventListener("close", () => {
      const values = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? values : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    form.querySelector("input, select, textarea")?.focus();
  });
}

function field({ name, label, value = "", options = null, max = 200, required = false, hint = null, lines = 0, pattern = null }) {
  const input = options
    ? h("select", { class: "form-select", name, id: `ask-${name}` }, options.map(([option, text]) => h("option", { value: option, selected: option === value }, text)))
    : lines
      ? h("textarea", { class: "form-control", name, id: `ask-${name}`, rows: lines, maxlength: max, required }, value)
      : h("input", { class: "form-control", name, id: `ask-${name}`, value, maxlength: max, required, pattern, autocomplete: "off" });
  return h("div", { class: "ns-field" }, h("label", { for: `ask-${name}` }, label), input, hint && h("span", { class: "ns-sub" }, hint));
}
