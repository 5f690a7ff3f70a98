// The dialog that sends a file to become a data set, or a new version of one.

import { fill, h } from "./dom.js";
import { bytes } from "./format.js";
import { config, toast, url } from "./site.js";

/** Send the file as it is; `progress` hears 0 … 1. Resolves to the server's answer. */
function send(file, facts, progress) {
  const query = new URLSearchParams({ ...facts, filename: file.name.slice(-200) });
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url(`/datasets/-/add?${query}`));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-XSRFToken", config.xsrf);
    request.upload.addEventListener("progress", (event) => progress(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Error("The connection was lost; nothing was kept.")));
    request.addEventListener("load", () => {
      let value = null;
      try { value = JSON.parse(request.responseText); } catch { /* said below */ }
      if (request.status === 200) resolve(value);
      else reject(new Error(value?.error || `The server answered ${request.status}.`));
    });
    request.send(file);
  });
}

/** `name` given: a new version of that one. Resolves to {name, version}, or null. */
export function addData({ formats, max_upload_bytes: most }, name = null) {
  return new Promise((resolve) => {
    const error = h("p", { class: "ns-form-error", role: "alert", hidden: true });
    const sending = h("div", { class: "ns-sending", hidden: true });
    const field = (label, input, hint) => h("div", { class: "ns-field" }, h("label", { for: input.id }, label), input, hint && h("span", { class: "ns-sub" }, hint));
    const named = h("input", { class: "form-control", id: "add-name", name: "name", required: true, maxlength: 100, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", title: "Letters, digits, dot, underscore and dash", autocomplete: "off", value: name || "", readonly: Boolean(name) });
    const file = h("input", { class: "form-control", id: "add-file", name: "file", type: "file", required: true });
    const how = h("select", { class: "form-select", id: "add-how", name: "how" },
      h("option", { value: "append" }, "Append: the newest version's rows, then these"), h("option", { value: "add" }, "Replace: these rows alone"));
    const format = h("select", { class: "form-select", id: "add-format", name: "format" }, h("option", { value: "" }, "Told by names and content"), formats.map((one) => h("option", { value: one }, one)));
    const buttons = [h("button", { class: "btn btn-outline-secondary", type: "button", onclick: () => close(null) }, "Go back"), h("button", { class: "btn btn-primary", type: "submit" }, name ? "Add version" : "Add")];
    const form = h("form", { method: "dialog" },
      h("h2", { id: "ns-question" }, name ? `A new version of ${name}` : "Add a data set"),
      h("p", {}, `One file of at most ${bytes(most)}: a zip of class-named image folders, IDX files or CIFAR-10 files, an .npz, a CSV with the columns text and label, or plain text.`),
      field("Name", named, name ? null : "An existing name gets a new version."), field("File", file), name ? field("How", how) : null, field("Format", format),
      error, sending, h("div", { class: "ns-buttons" }, buttons));
    const dialog = h("dialog", { class: "ns-dialog", "aria-labelledby": "ns-question" }, form);
    const say = (text) => { error.textContent = text; error.hidden = !text; };
    let busy = false;
    function close(value) { dialog.remove(); resolve(value); }
    function show(part) {
      const text = part < 1 ? `${Math.floor(part * 100)} % sent` : "Reading it …";
      sending.hidden = false;
      fill(sending, h("div", { class: "ns-progress", role: "progressbar", "aria-label": "Upload", "aria-valuenow": Math.floor(part * 100), "aria-valuemin": 0, "aria-valuemax": 100 }, h("div", { class: "ns-progress-fill", style: { width: `${part * 100}%` } })), h("span", { role: "status" }, text));
    }
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const [chosen] = file.files;
      if (chosen.size > most) return say(`The file has ${bytes(chosen.size)}; at most ${bytes(most)} can be sent.`);
      say("");
      busy = true;
      buttons.forEach((button) => { button.disabled = true; });
      try {
        const facts = { name: named.value.trim(), how: name ? how.value : "add", ...(format.value ? { format: format.value } : {}) };
        show(0);
        const answer = await send(chosen, facts, show);
        toast(answer.message);
        close({ name: facts.name, version: answer.version });
      } catch (problem) {
        say(problem.message);
      } finally {
        busy = false;
        sending.hidden = true;
        buttons.forEach((button) => { button.disabled = false; });
      }
    });
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); if (!busy) close(null); });
    document.body.append(dialog);
    dialog.showModal();
    (name ? file : named).focus();
  });
}
