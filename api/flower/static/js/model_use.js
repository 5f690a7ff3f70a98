// How a version is used from Python and from a terminal: lines to copy.

import { fill, h } from "./dom.js";
import { toast } from "./site.js";

const copied = (text) => navigator.clipboard.writeText(text).then(() => toast("It is in the clipboard."), () => toast("The browser does not let it be copied.", "danger"));

/** What inference does with each family. */
const TASK = { cnn: "predict", gru_lm: "generate", gan: "generate" };

/** A value as Python has it, with room between its parts: of what stands here JSON differs in nothing else. */
const spaced = (value) => JSON.stringify(value, null, 1).replace(/\n\s*/g, " ").replaceAll("{ ", "{").replaceAll(" }", "}").replaceAll("[ ", "[").replaceAll(" ]", "]");

function python(ref, version) {
  const dataset = (version.dataset || "digits@1").split("@")[0];
  const generate = TASK[version.family] === "generate";
  const inference = version.family === "gan" ? { task: "generate", count: 64 } : generate ? { task: "generate", prompts: ["Once upon a time"] } : { task: "predict" };
  const infer = { kind: "batch_infer", model_ref: ref, ...(generate ? {} : { dataset }), inference };
  return [
    "from nightshift import Client",
    "",
    "with Client() as nightshift:",
    "    # run it",
    `    job = nightshift.submit(${spaced(infer)})`,
    "    # or train it further",
    `    job = nightshift.submit(${spaced({ kind: "finetune", model_ref: ref, dataset, training: { epochs: 1 } })})`,
    "    job.wait()",
    "    # or take its files",
    `    nightshift.download_model("${ref}", to="model.zip")`,
  ].join("\n");
}

function terminal(ref, version) {
  const dataset = (version.dataset || "digits@1").split("@")[0];
  const infer = version.family === "gan" ? `${ref} --task generate --count 64` : version.family === "gru_lm" ? `${ref} --task generate --prompt 'Once upon a time'` : `${ref} --dataset ${dataset}`;
  return [`nightshift submit infer ${infer}`, `nightshift submit finetune ${ref} --dataset ${dataset} --epochs 1`, `nightshift models download ${ref}`].join("\n");
}

const block = (label, text) => h("div", { class: "ns-snippet" },
  h("div", { class: "ns-snippet-head" }, h("h3", {}, label), h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", "aria-label": `Copy ${label}`, onclick: () => copied(text) }, "Copy")),
  h("pre", { class: "ns-howto", tabindex: 0 }, text));

/** `ref` is `digits` or `digits@3`; `version` the one it means. */
export function drawUse(box, ref, version) {
  fill(box, version ? [block("Terminal", terminal(ref, version)), block("Python", python(ref, version))] : null);
}
