// Snippets that use a model version from Python and from a terminal.

import { fill, h } from "./dom.js";
import { CONTINUE, families, INFER } from "./facts.js";
import { toast } from "./site.js";

/** @param {string} text */
const copied = (text) =>
  navigator.clipboard.writeText(text).then(
    () => toast("Copied."),
    () => toast("The browser denied access to the clipboard.", "danger"),
  );

/**
 * Format JSON on one line, with spaces as in Python.
 * @param {unknown} value
 */
const spaced = (value) =>
  JSON.stringify(value, null, 1)
    .replace(/\n\s*/g, " ")
    .replaceAll("{ ", "{")
    .replaceAll(" }", "}")
    .replaceAll("[ ", "[")
    .replaceAll(" ]", "]");

/** @param {ModelVersion} version */
const datasetOf = (version) => (version.dataset || "digits@1").split("@")[0];
/**
 * Return the family of a model; a program's model has none, and jobs of other kinds cannot use it.
 * @param {ModelVersion} version
 */
const familyOf = (version) => families.find(({ name }) => name === version.family);
/**
 * @param {ModelVersion} version
 * @returns {Inference}
 */
const inferenceOf = (version) => familyOf(version)?.inference ?? {};
/** @param {ModelVersion} version */
const infers = (version) => "task" in inferenceOf(version);
/**
 * Return whether inference reads a data set; generating does not.
 * @param {Inference} inference
 */
const readsData = ({ prompts, count }) => !prompts && !count;

/**
 * Return the lines that submit a job by keyword.
 * @param {Record<string, unknown>} spec
 */
const submission = (spec) => [
  "    job = nightshift.submit(",
  ...Object.entries(spec).map(([name, value]) => `        ${name}=${spaced(value)},`),
  "    )",
];

/**
 * @param {string} ref
 * @param {ModelVersion} version
 */
function python(ref, version) {
  const [dataset, inference] = [datasetOf(version), inferenceOf(version)];
  const infer = { kind: INFER.name, model_ref: ref, ...(readsData(inference) ? { dataset } : {}), inference };
  const further = { kind: CONTINUE.name, model_ref: ref, dataset, training: { epochs: 1 } };
  const used = [
    ...(infers(version) ? ["    # run it", ...submission(infer)] : []),
    ...["    # continue training", ...submission(further), "    job.wait()"],
  ];
  return [
    "from nightshift import Client",
    "",
    "with Client() as nightshift:",
    ...(familyOf(version) ? used : []),
    "    # take its files",
    `    nightshift.download_model("${ref}", to="model.zip")`,
  ].join("\n");
}

/** @param {ModelVersion} version */
function inferOptions(version) {
  const inference = inferenceOf(version);
  if (readsData(inference)) return `--dataset ${datasetOf(version)}`;
  const { task, prompts, count } = inference;
  return `--task ${task} ${prompts ? `--prompt '${prompts[0]}'` : `--count ${count}`}`;
}

/**
 * @param {string} ref
 * @param {ModelVersion} version
 */
const terminal = (ref, version) =>
  [
    ...(infers(version) ? [`nightshift submit infer ${ref} ${inferOptions(version)}`] : []),
    ...(familyOf(version)
      ? [`nightshift submit ${CONTINUE.name} ${ref} --dataset ${datasetOf(version)} --epochs 1`]
      : []),
    `nightshift models download ${ref}`,
  ].join("\n");

/**
 * @param {string} label
 * @param {string} text
 */
const block = (label, text) =>
  h(
    "div",
    { class: "ns-snippet" },
    h(
      "div",
      { class: "ns-snippet-head" },
      h("h3", {}, label),
      h(
        "button",
        {
          class: "btn btn-sm btn-outline-secondary",
          type: "button",
          "aria-label": `Copy ${label}`,
          onclick: () => copied(text),
        },
        "Copy",
      ),
    ),
    h("pre", { class: "ns-howto", tabindex: 0 }, text),
  );

/**
 * Draw the snippets; `ref` (`digits`, `digits@3`) means `version`.
 * @param {Element} box
 * @param {string} ref
 * @param {ModelVersion | undefined} version
 */
export function drawUse(box, ref, version) {
  fill(box, version ? [block("Terminal", terminal(ref, version)), block("Python", python(ref, version))] : null);
}
