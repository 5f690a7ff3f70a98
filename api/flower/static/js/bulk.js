// What is done to all ticked jobs: one request each, and what was refused is told per job.

import { ask } from "./dialog.js";
import { h, patch } from "./dom.js";
import { config, confirmed, post, toast } from "./site.js";

const isFinal = (job) => ["succeeded", "failed", "cancelled"].includes(job.state);
const jobs = (count) => `${count} job${count === 1 ? "" : "s"}`;
/** Requests under way at once: a server with one writer gains nothing by more. */
const AT_ONCE = 4;
/** Refusals that are told one by one. */
const TOLD = 5;

/** label, what it does, the jobs it can be done to, and what is asked before. */
const ACTIONS = [
  { name: "pause", label: "Pause", done: "asked to pause", fits: (job) => ["running", "queued"].includes(job.state) },
  { name: "resume", label: "Resume", done: "resumed", fits: (job) => job.state === "paused" },
  { name: "cancel", label: "Cancel", style: "outline-danger", done: "asked to cancel", fits: (job) => !isFinal(job), question: (count) => [`Cancel ${jobs(count)}?`, "Nothing of them is kept; running ones stop at their next step."] },
  { name: "edit", label: "Tag", done: "tagged", fits: () => true, fields: [{ name: "name", label: "Tag", required: true, max: 100 }, { name: "value", label: "Value", hint: "Left empty, the tag is removed." }] },
  { name: "archive", label: "Archive", done: "archived", undo: "unarchive", fits: (job) => isFinal(job) && !job.archived },
  { name: "unarchive", label: "Unarchive", done: "back from the archive", fits: (job) => job.archived },
  { name: "delete", label: "Delete", style: "outline-danger", done: "deleted", fits: isFinal, question: (count) => [`Delete ${jobs(count)} for good?`, "Their files, checkpoints, metrics, logs and events are removed. This cannot be undone."] },
];

/** bulkBar(box, selection, done) -> {draw} */
export function bulkBar(box, selection, done) {
  let busy = false;
  /** The message that offers to undo what was done last; it stays until something else is done. */
  let undoable = null;

  async function run(action) {
    const chosen = selection.jobs.filter(action.fits);
    const body = action.fields ? await fieldsOf(action, chosen.length) : {};
    if (!body || (action.question && !(await confirmed(...action.question(chosen.length), action.label)))) return;
    busy = true;
    undoable?.remove();
    draw();
    const refused = await postAll(chosen, action.name, body);
    busy = false;
    const went = chosen.filter((job) => !refused.has(job));
    if (went.length) tell(action, went);
    for (const [job, error] of [...refused].slice(0, TOLD)) toast(`${job.name || job.id.slice(0, 8)}: ${error.message}`, "danger");
    if (refused.size > TOLD) toast(`${jobs(refused.size - TOLD)} more were refused.`, "danger");
    // What is out of sight now is not ticked any more; what was refused stays ticked.
    selection.forget(["archive", "delete", "unarchive"].includes(action.name) ? went.map((job) => job.id) : []);
    done();
  }

  function tell(action, went) {
    const message = toast(`${jobs(went.length)} ${action.done}.`, "success", Boolean(action.undo));
    if (!action.undo) return;
    undoable = message;
    const undo = h("button", { class: "btn btn-sm btn-link", type: "button", onclick: async () => { undo.disabled = true; await postAll(went, action.undo, {}); message.remove(); done(); } }, "Undo");
    message.querySelector("span").append(" ", undo);
  }

  function button(action) {
    const count = selection.jobs.filter(action.fits).length;
    if (!count) return null;
    const text = count === selection.size ? action.label : `${action.label} ${count}`;
    return h("button", { type: "button", class: `btn btn-sm btn-${action.style || "outline-secondary"}`, disabled: busy, "data-key": `bulk-${action.name}`, "data-chosen": selection.ids.join(), onclick: () => run(action) }, text);
  }

  function draw() {
    box.hidden = !selection.size;
    patch(box, h("span", {}, `${selection.size.toLocaleString("en-US")} chosen`),
      config.readOnly ? null : ACTIONS.map(button),
      h("button", { type: "button", class: "btn btn-sm btn-outline-secondary", "data-key": "bulk-none", onclick: () => selection.clear() }, "Choose none"));
  }

  return { draw };
}

async function fieldsOf(action, count) {
  const values = await ask(`${action.label} ${jobs(count)}`, "Other tags stay as they are.", action.fields, action.label);
  return values && { tags: { [values.name]: values.value || null } };
}

/** job -> error, of those that were refused. */
async function postAll(chosen, name, body) {
  const refused = new Map();
  const left = [...chosen];
  const work = async () => {
    for (let job = left.shift(); job; job = left.shift()) {
      try {
        await post(`/jobs/${job.id}/${name}`, body);
      } catch (error) {
        refused.set(job, error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return refused;
}
