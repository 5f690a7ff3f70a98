// Actions on all selected jobs: one request per job, and one message per refusal.

import { ask, confirmed } from "./dialog.js";
import { h, patch } from "./dom.js";
import { config, post, toast } from "./site.js";

/** @param {JobRow} job */
const isFinal = (job) => ["succeeded", "failed", "cancelled"].includes(job.state);
/** @param {number} count */
const jobs = (count) => `${count} job${count === 1 ? "" : "s"}`;
/** Concurrent requests: a server with one writer gains nothing from more. */
const AT_ONCE = 4;
/** Refusals that get a message of their own. */
const TOLD = 5;

/**
 * The actions, in the order of their buttons.
 * @type {BulkAction[]}
 */
const ACTIONS = [
  {
    name: "pause",
    label: "Pause",
    done: "Pause requested for",
    fits: (job) => ["running", "queued"].includes(job.state),
  },
  { name: "resume", label: "Resume", done: "Resumed", fits: (job) => job.state === "paused" },
  {
    name: "cancel",
    label: "Cancel",
    style: "outline-danger",
    done: "Cancel requested for",
    fits: (job) => !isFinal(job),
    question: (count) => [`Cancel ${jobs(count)}?`, "No results are kept; running jobs stop at the next step."],
  },
  {
    name: "edit",
    label: "Tag",
    done: "Tagged",
    fits: () => true,
    fields: [
      { name: "name", label: "Tag", required: true, max: 100 },
      { name: "value", label: "Value", hint: "Leave empty to remove the tag." },
    ],
  },
  {
    name: "archive",
    label: "Archive",
    done: "Archived",
    undo: "unarchive",
    fits: (job) => isFinal(job) && !job.archived,
  },
  { name: "unarchive", label: "Unarchive", done: "Unarchived", fits: (job) => job.archived },
  {
    name: "delete",
    label: "Delete",
    style: "outline-danger",
    done: "Deleted",
    fits: isFinal,
    question: (count) => [
      `Delete ${jobs(count)} permanently?`,
      "Their files, checkpoints, metrics, logs and events are removed. This cannot be undone.",
    ],
  },
];

/**
 * bulkBar(box, selection, done) -> {draw}
 * @param {HTMLElement} box
 * @param {import("./selection.js").Selection} selection
 * @param {() => void} done
 */
export function bulkBar(box, selection, done) {
  let busy = false;
  /**
   * The message that offers to undo the last action; it stays until the next action.
   * @type {HTMLElement | null}
   */
  let undoable = null;

  /** @param {BulkAction} action */
  async function run(action) {
    const chosen = selection.jobs.filter(action.fits);
    const body = action.fields ? await fieldsOf(action, action.fields, chosen.length) : {};
    if (!body || (action.question && !(await confirmed(...action.question(chosen.length), action.label)))) return;
    busy = true;
    undoable?.remove();
    draw();
    const refused = await postAll(chosen, action.name, body);
    busy = false;
    const went = chosen.filter((job) => !refused.has(job));
    if (went.length) tell(action, went);
    for (const [job, error] of [...refused].slice(0, TOLD))
      toast(`${job.name || job.id.slice(0, 8)}: ${error.message}`, "danger");
    if (refused.size > TOLD) toast(`${jobs(refused.size - TOLD)} more were refused.`, "danger");
    // Jobs that left the table are deselected; refused ones stay selected.
    selection.forget(["archive", "delete", "unarchive"].includes(action.name) ? went.map((job) => job.id) : []);
    done();
  }

  /**
   * @param {BulkAction} action
   * @param {JobRow[]} went
   */
  function tell(action, went) {
    const { undo: back } = action;
    const message = toast(`${action.done} ${jobs(went.length)}.`, "success", Boolean(back));
    if (!back) return;
    undoable = message;
    const undo = h(
      "button",
      {
        class: "btn btn-sm btn-link",
        type: "button",
        onclick: async () => {
          undo.disabled = true;
          await postAll(went, back, {});
          message.remove();
          done();
        },
      },
      "Undo",
    );
    message.querySelector("span")?.append(" ", undo);
  }

  /** @param {BulkAction} action */
  function button(action) {
    const count = selection.jobs.filter(action.fits).length;
    if (!count) return null;
    const text = count === selection.size ? action.label : `${action.label} ${count}`;
    return h(
      "button",
      {
        type: "button",
        class: `btn btn-sm btn-${action.style || "outline-secondary"}`,
        disabled: busy,
        "data-key": `bulk-${action.name}`,
        "data-chosen": selection.ids.join(),
        onclick: () => run(action),
      },
      text,
    );
  }

  function draw() {
    box.hidden = !selection.size;
    patch(
      box,
      h("span", {}, `${selection.size.toLocaleString("en-US")} selected`),
      config.readOnly ? null : ACTIONS.map(button),
      h(
        "button",
        {
          type: "button",
          class: "btn btn-sm btn-outline-secondary",
          "data-key": "bulk-none",
          onclick: () => selection.clear(),
        },
        "Clear selection",
      ),
    );
  }

  return { draw };
}

/**
 * @param {BulkAction} action
 * @param {AskField[]} fields
 * @param {number} count
 */
async function fieldsOf(action, fields, count) {
  const values = await ask(`${action.label} ${jobs(count)}`, "Other tags are not changed.", fields, action.label);
  return values && { tags: { [values.name]: values.value || null } };
}

/**
 * Post to each job and return the errors of those that were refused.
 * @param {JobRow[]} chosen
 * @param {string} name
 * @param {object} body
 */
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
