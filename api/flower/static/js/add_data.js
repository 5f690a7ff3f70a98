// The dialog that uploads a file as a new data set or a new version of one.

import { hasParts } from "./dataset_parts.js";
import { backButton, labelled, openDialog } from "./dialog.js";
import { fill, h } from "./dom.js";
import { bytes } from "./format.js";
import { config, said, toast, url } from "./site.js";

/**
 * Upload the file as the request body; `progress` gets the fraction sent (0 to 1).
 * @param {File} file
 * @param {Record<string, string>} facts
 * @param {(part: number) => void} progress
 * @returns {Promise<{ message: string, version: number }>}
 */
function send(file, facts, progress) {
  const query = new URLSearchParams({ ...facts, filename: file.name.slice(-200) });
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url(`/datasets/-/add?${query}`));
    request.responseType = "json";
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-XSRFToken", config.xsrf);
    request.upload.addEventListener("progress", (event) => progress(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Error("Connection lost; nothing was saved.")));
    request.addEventListener("load", () => {
      if (request.status === 200) resolve(request.response);
      else reject(new Error(request.response?.error || `The server answered ${request.status}.`));
    });
    request.send(file);
  });
}

/** @param {number} part of the file that has been sent */
const progressBar = (part) => [
  h(
    "div",
    {
      class: "ns-progress",
      role: "progressbar",
      "aria-label": "Upload",
      "aria-valuenow": Math.floor(part * 100),
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    },
    h("div", { class: "ns-progress-fill", style: { width: `${part * 100}%` } }),
  ),
  h("span", { role: "status" }, part < 1 ? `${Math.floor(part * 100)}% sent` : "Processing …"),
];

/**
 * @param {string} name
 * @param {[string, string][]} options
 */
const choice = (name, options) =>
  h(
    "select",
    { class: "form-select", id: `add-${name}`, name },
    options.map(([value, label]) => h("option", { value }, label)),
  );

/**
 * Create the inputs of the dialog. With `name`, it adds a version to that data set, of `kind` if that is known.
 * @param {UploadFacts} facts
 * @param {string | null} name
 * @param {string | null} kind
 */
function inputs({ data_kinds: kinds, formats }, name, kind) {
  const named = h("input", {
    class: "form-control",
    id: "add-name",
    name: "name",
    required: true,
    maxlength: 100,
    pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*",
    title: "Letters, digits, dot, underscore and dash",
    autocomplete: "off",
    value: name || "",
    readonly: Boolean(name),
  });
  const file = h("input", { class: "form-control", id: "add-file", name: "file", type: "file", required: true });
  const how = choice("how", [
    ["append", "Append to the rows of the newest version"],
    ["add", "Replace: only these rows"],
  ]);
  const format = choice("format", [
    ["", "Auto-detect"],
    ...formats.map((one) => /** @type {[string, string]} */ ([one, one])),
  ]);
  const kindChoice = choice("kind", [
    ["", "Auto-detect"],
    ...kinds.map((one) => /** @type {[string, string]} */ ([one, KINDS[one] ?? one])),
  ]);
  kindChoice.value = kind || "";
  kindChoice.disabled = Boolean(kind);
  const chosen = () => {
    format.disabled = Boolean(kindChoice.value) && !hasParts(kindChoice.value);
    if (format.disabled) format.value = "";
  };
  kindChoice.addEventListener("change", chosen);
  chosen();
  return { named, file, how, kind: kindChoice, format };
}

/** @type {Record<string, string>} */
const KINDS = { image: "image", text: "text", files: "files, stored as they are", table: "table (CSV or Parquet)" };

/** @type {Record<string, string>} */
const HOLDS = {
  "":
    "a zip of class-named image folders, IDX files or CIFAR-10 files, an .npz, a CSV with the columns text and " +
    "label, plain text, a table or any files",
  files: "any file, or a zip, which is unpacked",
  table: "a CSV with a header row, or Parquet",
};

/**
 * Ask for a file and upload it. With `name`, it becomes a new version of that data set.
 * @param {UploadFacts} facts
 * @param {string | null} name
 * @param {string | null} known the kind of that data set
 * @returns {Promise<{ name: string, version: number } | null>} null where nothing was added
 */
export function addData(facts, name = null, known = null) {
  const most = facts.max_upload_bytes;
  const { named, file, how, kind, format } = inputs(facts, name, known);
  const grows = Boolean(name) && (!known || hasParts(known));
  const error = h("p", { class: "ns-form-error", role: "alert", hidden: true });
  const sending = h("div", { class: "ns-sending", hidden: true });
  const buttons = h(
    "fieldset",
    { class: "ns-buttons" },
    backButton(),
    h("button", { class: "btn btn-primary", type: "submit" }, name ? "Add version" : "Add"),
  );
  const form = h(
    "form",
    {},
    h("h2", { id: "ns-question" }, name ? `New version of ${name}` : "Add a data set"),
    h("p", {}, `One file of at most ${bytes(most)}: ${HOLDS[known || ""] || HOLDS[""]}.`),
    labelled("Name", named, name ? null : "An existing name gets a new version."),
    labelled("File", file),
    grows ? labelled("How", how) : null,
    labelled("Kind", kind, known ? null : "Needed for files, and for a table from a CSV."),
    labelled("Format", format, "Of images and text."),
    error,
    sending,
    buttons,
  );

  /** @param {string} text */
  const say = (text) => {
    error.textContent = text;
    error.hidden = !text;
  };

  /** @param {File} chosen */
  async function upload(chosen) {
    const wanted = { name: named.value.trim(), how: grows ? how.value : "add", kind: kind.value, format: format.value };
    const given = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
    const answer = await send(chosen, given, (part) => fill(sending, progressBar(part)));
    toast(answer.message);
    return { name: wanted.name, version: answer.version };
  }

  /** @type {{ name: string, version: number } | null} */
  let added = null;
  return new Promise((resolve) => {
    const dialog = openDialog(form, { done: () => resolve(added), mayClose: () => !buttons.disabled });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const chosen = file.files?.[0];
      if (!chosen) return;
      if (chosen.size > most) return say(`The file is ${bytes(chosen.size)}; the limit is ${bytes(most)}.`);
      say("");
      fill(sending, progressBar(0));
      [buttons.disabled, sending.hidden] = [true, false];
      try {
        added = await upload(chosen);
        dialog.close();
      } catch (problem) {
        say(said(problem));
      } finally {
        [buttons.disabled, sending.hidden] = [false, true];
      }
    });
    (name ? file : named).focus();
  });
}
