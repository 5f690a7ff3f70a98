// What people write on a job: its name, notes, tags and, while it waits, its priority. Never what it computes.

import { byId, h } from "./dom.js";
import { post } from "./site.js";
import { asText, field, meaning } from "./spec_form.js";

const WAITING = ["waiting", "queued", "paused"];

/** Those named are set, those that are gone are null. */
const tagChanges = (before, after) => ({ ...Object.fromEntries(Object.keys(before).map((key) => [key, null])), ...after });

/** Opens the dialog; it stays open with what is wrong until the server takes it, then calls `done`. */
export function editJob(job, done) {
  const values = { name: job.name || "", tags: asText("tags", job.tags), priority: String(job.priority) };
  const input = (path, type, more) => field({ path, type, ...more }, values[path], null, () => {}, null);
  const notes = h("textarea", { class: "form-control", id: "field-notes", name: "notes", rows: 5, maxlength: 20000 });
  notes.value = job.notes || "";
  const form = h("form", { method: "dialog" },
    h("h2", { id: "ns-edit" }, "Edit"),
    h("p", {}, "What it computes stays as it was submitted."),
    input("name", "string"), input("tags", "text", { hint: "name=value, with commas between" }),
    WAITING.includes(job.state) ? input("priority", "integer", { hint: "0 to 9; higher runs first" }) : null,
    h("div", { class: "ns-field", "data-path": "notes" }, h("label", { for: "field-notes" }, "Notes"), notes, h("span", { class: "ns-error", id: "field-notes-error" })),
    h("div", { class: "ns-error", role: "alert" }),
    h("div", { class: "ns-buttons" },
      h("button", { class: "btn btn-outline-secondary", type: "button", onclick: () => dialog.close() }, "Go back"),
      h("button", { class: "btn btn-primary", type: "submit" }, "Save")));
  const dialog = h("dialog", { class: "ns-dialog ns-edit", "aria-labelledby": "ns-edit" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const typed = Object.fromEntries(new FormData(form));
    const changes = { name: typed.name.trim() || null, notes: typed.notes.trim() || null, tags: tagChanges(job.tags, meaning("tags", typed.tags) || {}) };
    if ("priority" in typed) changes.priority = meaning("integer", typed.priority) ?? 5;
    try {
      await post(`/jobs/${job.id}/edit`, changes);
      dialog.close();
      done();
    } catch (error) {
      wrong(form, error);
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  byId("field-name").focus();
}

function wrong(form, error) {
  for (const place of form.querySelectorAll(".ns-error")) place.textContent = "";
  const left = error.errors.filter(({ loc, msg }) => {
    const place = byId(`field-${loc[0]}-error`);
    if (place) place.textContent = loc.length > 1 ? `${loc.slice(1).join(".")}: ${msg}` : msg;
    return !place;
  });
  if (left.length || !error.errors.length) form.querySelector("[role=alert]").textContent = error.message;
}
