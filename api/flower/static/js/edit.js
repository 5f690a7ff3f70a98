// The dialog that edits name, notes, tags and, before the start, the priority of a job.

import { backButton, openDialog } from "./dialog.js";
import { byId, entries, h } from "./dom.js";
import { post, ServerError, said } from "./site.js";
import { asText, field, meaning } from "./spec_form.js";

const WAITING = ["waiting", "queued", "paused"];

/**
 * Return the changes of tags; null removes one.
 * @param {Tags} before
 * @param {Tags} after
 */
const tagChanges = (before, after) => ({
  ...Object.fromEntries(Object.keys(before).map((key) => [key, null])),
  ...after,
});

/** @param {JobPage["job"]} job */
function fields(job) {
  /** @type {(path: string, type: string, value: string, hint?: string) => Child} */
  const input = (path, type, value, hint) => field({ path, type, hint }, value, null, () => {});
  const notes = h("textarea", { class: "form-control", id: "field-notes", name: "notes", rows: 5, maxlength: 20000 });
  notes.value = job.notes || "";
  return [
    input("name", "string", job.name || ""),
    input("tags", "text", asText("tags", job.tags), "name=value, separated by commas"),
    WAITING.includes(job.state)
      ? input("priority", "integer", String(job.priority), "0 to 9; higher runs first")
      : null,
    h(
      "div",
      { class: "ns-field", "data-path": "notes" },
      h("label", { for: "field-notes" }, "Notes"),
      notes,
      h("span", { class: "ns-error", id: "field-notes-error" }),
    ),
  ];
}

/**
 * @param {JobPage["job"]} job
 * @param {Record<string, string>} typed
 */
const changesOf = (job, { name, notes, tags, priority }) => ({
  name: name || null,
  notes: notes || null,
  tags: tagChanges(job.tags, meaning("tags", tags) || {}),
  ...(priority === undefined ? {} : { priority: meaning("integer", priority) ?? 5 }),
});

/**
 * Open the dialog. It shows errors and stays open until the server accepts, then calls `done`.
 * @param {JobPage["job"]} job
 * @param {() => void} done
 */
export function editJob(job, done) {
  const form = h(
    "form",
    {},
    h("h2", { id: "ns-question" }, "Edit"),
    h("p", {}, "The rest of the spec cannot be changed."),
    fields(job),
    h("div", { class: "ns-error", role: "alert" }),
    h("div", { class: "ns-buttons" }, backButton(), h("button", { class: "btn btn-primary", type: "submit" }, "Save")),
  );
  const dialog = openDialog(form, { class: "ns-edit" });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await post(`/jobs/${job.id}/edit`, changesOf(job, entries(form)));
      dialog.close();
      done();
    } catch (error) {
      wrong(form, error);
    }
  });
  byId("field-name").focus();
}

/**
 * Show each error at its field, and the rest below.
 * @param {HTMLFormElement} form
 * @param {unknown} error
 */
function wrong(form, error) {
  const errors = error instanceof ServerError ? error.errors : [];
  for (const place of form.querySelectorAll(".ns-error")) place.textContent = "";
  const left = errors.filter(({ loc: [name, ...inner], msg }) => {
    const place = document.getElementById(`field-${name}-error`);
    if (place) place.textContent = inner.length ? `${inner.join(".")}: ${msg}` : msg;
    return !place;
  });
  const general = form.querySelector("[role=alert]");
  if (general && (left.length || !errors.length)) general.textContent = said(error);
}
