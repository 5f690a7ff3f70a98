// The page of one Celery task: its attempt, its job, and a button to cancel that.

import { byId, fill, h, pageData } from "./dom.js";
import { duration } from "./format.js";
import { CANCEL, stateBadge } from "./parts.js";
import { actionButton, ago, config, toast, url } from "./site.js";

/** @type {TaskPage} */
const task = pageData();
const running = task.outcome === null;
let asked = task.stop_requested;

function draw() {
  fill(
    byId("task-state"),
    stateBadge(task.outcome ?? "running"),
    running && asked ? h("span", { class: "ns-badge ns-asked" }, `${asked} requested`) : null,
  );
  const page = h("a", { class: "btn btn-sm btn-primary", href: url(`/jobs/${task.job_id}`) }, "Open the job");
  const cancel =
    running && asked !== "cancel" && !config.readOnly
      ? actionButton("Cancel the job", `/jobs/${task.job_id}/cancel`, { ...CANCEL, done: requested })
      : null;
  fill(byId("task-actions"), cancel, page);
}

function requested() {
  asked = "cancel";
  toast("Cancel requested: the job stops at the next step.");
  draw();
}

function facts() {
  /**
   * @param {string} label
   * @param {Child[]} value
   */
  const fact = (label, ...value) => h("div", { class: "ns-fact" }, h("dt", {}, label), h("dd", {}, value));
  const end = task.ended_at ? Date.parse(task.ended_at) : Date.now();
  return h(
    "dl",
    { class: "ns-facts" },
    fact("Job", h("a", { href: url(`/jobs/${task.job_id}`) }, task.description.job)),
    fact("Work", task.description.work),
    fact("Progress", task.description.status || "–"),
    fact("Worker", h("a", { href: `${config.prefix}/worker/${encodeURIComponent(task.worker)}` }, task.worker)),
    fact("Started", ago(task.started_at)),
    fact(running ? "Running for" : "Duration", duration((end - Date.parse(task.started_at)) / 1000)),
    running ? null : fact("Ended", ago(task.ended_at)),
    task.outcome && task.outcome !== "succeeded" ? fact("Reason", task.error) : null,
    fact("Celery state", task.state),
  );
}

fill(byId("task-facts"), facts());
draw();
