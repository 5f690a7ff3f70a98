// Dialogs: a question, a few values, or a form of any kind.

import { entries, h } from "./dom.js";

/**
 * Show a form in a modal dialog. `done` is called when it has closed, with the value of the button that closed it.
 * @param {HTMLFormElement} form Its heading has the id `ns-question`.
 * @param {{ class?: string, done?: (value: string) => void, mayClose?: () => boolean }} options
 */
export function openDialog(form, { class: name = "", done = () => {}, mayClose = () => true } = {}) {
  const dialog = h("dialog", { class: `ns-dialog ${name}`.trim(), "aria-labelledby": "ns-question" }, form);
  dialog.addEventListener("cancel", (event) => {
    if (!mayClose()) event.preventDefault();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    done(dialog.returnValue);
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** The button that closes a dialog and changes nothing. */
export const backButton = () =>
  h(
    "button",
    {
      class: "btn btn-outline-secondary",
      type: "button",
      onclick: ({ target }) => target.closest("dialog").close("no"),
    },
    "Go back",
  );

/**
 * A label, its input and what helps to fill it in.
 * @param {string} label
 * @param {HTMLElement} input
 * @param {Child} hint
 */
export const labelled = (label, input, hint = null) =>
  h(
    "div",
    { class: "ns-field" },
    h("label", { for: input.id }, label),
    input,
    hint ? h("span", { class: "ns-sub" }, hint) : null,
  );

/**
 * Ask before something that cannot be undone. Resolves to whether it was confirmed; Escape and "Go back" mean no.
 * @param {string} question
 * @param {string} detail
 * @param {string} action
 * @returns {Promise<boolean>}
 */
export function confirmed(question, detail, action) {
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "ns-question" }, question),
    h("p", {}, detail),
    h("div", { class: "ns-buttons" }, backButton(), h("button", { class: "btn btn-danger", value: "yes" }, action)),
  );
  return new Promise((resolve) => {
    openDialog(form, { done: (value) => resolve(value === "yes") });
    form.querySelector("button")?.focus();
  });
}

/**
 * Ask for a few values before something is done. Resolves to {name: value}, or to null after Escape or "Go back".
 * @param {string} title
 * @param {string} detail
 * @param {AskField[]} fields
 * @param {string} action
 * @returns {Promise<Record<string, string> | null>}
 */
export function ask(title, detail, fields, action) {
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "ns-question" }, title),
    h("p", {}, detail),
    fields.map(({ label, hint, ...field }) => labelled(label, inputOf(field), hint)),
    h("div", { class: "ns-buttons" }, backButton(), h("button", { class: "btn btn-primary", value: "yes" }, action)),
  );
  return new Promise((resolve) => {
    openDialog(form, { done: (value) => resolve(value === "yes" ? entries(form) : null) });
    /** @type {HTMLElement | null} */ (form.querySelector("input, select, textarea"))?.focus();
  });
}

/** @param {Omit<AskField, "label" | "hint">} field */
function inputOf({ name, value = "", max = 200, required = false, lines = 0, pattern }) {
  const common = { class: "form-control", id: `ask-${name}`, name, maxlength: max, required };
  return lines
    ? h("textarea", { ...common, rows: lines }, value)
    : h("input", { ...common, value, pattern, autocomplete: "off" });
}
