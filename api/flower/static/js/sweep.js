// The page of one sweep: its trials, the best so far, and charts of its space.

import { walkable } from "./compare_charts.js";
import { ask } from "./dialog.js";
import { byId, fill, h, pageData, parts } from "./dom.js";
import { measure, metricName } from "./figures.js";
import { duration, number, seconds } from "./format.js";
import { empty, progressBar, stateBadge } from "./parts.js";
import { work } from "./schedule_parts.js";
import { actionButton, ago, config, getJson, live, post, said, toast, url } from "./site.js";
import { compared, drawImportance, drawProgress, drawSpace } from "./sweep_charts.js";
import { parameterText, rangeText, trialsBar } from "./sweep_parts.js";
import { drawTable } from "./table.js";

/** @type {SweepPage} */
let shown = pageData();
const part = parts();
const { id } = shown;
/** @type {View} */
let view = {};
let sort = "number";

const isFinal = () => !["running", "paused", "stopping"].includes(shown.state);

async function addTrials() {
  const field = { name: "count", label: "Number of trials", value: "10", pattern: "[1-9][0-9]{0,3}", required: true };
  const values = await ask("Add trials", "A sweep that has ended runs again.", [field], "Add");
  if (!values) return;
  try {
    const { message } = await post(`/sweeps/${id}/add`, { count: Number(values.count) });
    toast(message);
    updates.now();
  } catch (error) {
    toast(said(error), "danger");
  }
}

function controls() {
  const done = () => updates.now();
  const stop = {
    question: "Stop this sweep?",
    detail: "No further trial starts. Running jobs finish with the best model that they have.",
  };
  const cancel = {
    question: "Cancel this sweep?",
    detail: "Its jobs are cancelled and nothing is done with the best trial. Trials that have ended are kept.",
  };
  const remove = { question: "Delete this sweep?", detail: "Its trials are deleted. Their jobs are kept." };
  const { state } = shown;
  return h(
    "div",
    { class: "ns-buttons" },
    state === "running" ? actionButton("Pause", `/sweeps/${id}/pause`, { done }) : null,
    state === "paused" ? actionButton("Resume", `/sweeps/${id}/resume`, { style: "primary", done }) : null,
    state === "stopping"
      ? null
      : h(
          "button",
          { class: "btn btn-sm btn-outline-secondary", type: "button", "data-key": "add", onclick: addTrials },
          "Add trials",
        ),
    ["running", "paused"].includes(state) ? actionButton("Stop", `/sweeps/${id}/stop`, { ask: stop, done }) : null,
    isFinal()
      ? actionButton("Delete", `/sweeps/${id}/delete`, { ask: remove, done: () => location.assign(url("/sweeps")) })
      : actionButton("Cancel", `/sweeps/${id}/cancel`, { style: "outline-danger", ask: cancel, done }),
  );
}

function drawHead() {
  const { objective, sampler, pruner } = shown;
  const way = `${objective.direction === "max" ? "highest" : "lowest"} ${metricName(objective.metric)}`;
  fill(
    byId("sweep-facts"),
    stateBadge(shown.state),
    trialsBar(shown),
    h("span", { class: "ns-muted" }, `${way}, by ${sampler}${pruner.name === "none" ? "" : ` with ${pruner.name}`}`),
  );
  fill(byId("sweep-buttons"), config.readOnly ? null : controls());
}

/** @param {NonNullable<Sweep["outcome"]>} outcome */
const outcomeText = ({ registered, job_id: job, schedule, refused, failed_because: reason }) => [
  reason ? h("p", { class: "ns-error" }, `It could not go on: ${reason}`) : null,
  registered ? h("p", {}, "Registered as ", modelLink(registered), ".") : null,
  job ? h("p", {}, "Trained once more to be promoted: ", jobLink(job), ".") : null,
  schedule
    ? h("p", {}, "Its parameters are now those of ", h("a", { href: url(`/schedules/${schedule}`) }, schedule), ".")
    : null,
  Object.entries(refused ?? {}).map(([name, why]) => h("p", { class: "ns-error" }, `${name}: ${why}`)),
];
/** @param {string} model */
const modelLink = (model) => h("a", { href: url(`/models/${model.split("@")[0]}`) }, model);
/** @param {string} job */
const jobLink = (job) =>
  h("a", { class: "ns-name", href: url(`/jobs/${job}`), "data-key": `job-${job}` }, job.slice(0, 8));

function drawBest() {
  const best = shown.trial_list.find((trial) => trial.number === shown.best);
  const outcome = shown.outcome ? outcomeText(shown.outcome) : null;
  if (!best) return fill(byId("sweep-best"), h("p", { class: "ns-muted" }, "No trial has a value yet."), outcome);
  const { metric } = shown.objective;
  fill(
    byId("sweep-best"),
    h(
      "p",
      {},
      h("strong", { class: "ns-best-value" }, measure(metric, Number(best.value))),
      ` ${metricName(metric)}, trial ${best.number}, `,
      best.job_id ? ["job ", jobLink(best.job_id)] : null,
    ),
    h(
      "dl",
      { class: "ns-params" },
      Object.entries(best.params).map(([path, value]) => [h("dt", {}, path), h("dd", {}, parameterText(value))]),
    ),
    outcome,
  );
}

/** @returns {Column<Trial>[]} */
function columns() {
  const { metric } = shown.objective;
  return [
    {
      label: "Trial",
      sort: "number",
      class: "ns-nowrap",
      cell: (trial) => [
        trial.number === shown.best ? h("strong", {}, `${trial.number} ★`) : String(trial.number),
        trial.job_id && trial.job_state ? h("span", { class: "ns-sub" }, jobLink(trial.job_id)) : null,
      ],
    },
    {
      label: "State",
      cell: (trial) => [
        stateBadge(trial.state, trial.pruning ? "finish" : null),
        trial.reason ? h("span", { class: "ns-sub" }, trial.reason) : null,
      ],
    },
    {
      label: metricName(metric),
      sort: "value",
      first: shown.objective.direction === "max" ? "-value" : "value",
      class: "ns-nowrap",
      cell: (trial) =>
        trial.value === null
          ? trial.state === "running"
            ? progressBar({ state: "running", progress: /** @type {any} */ ({ percent: trial.percent }) })
            : "–"
          : measure(metric, trial.value),
    },
    ...Object.keys(shown.space).map((path) => ({
      label: path,
      sort: path,
      class: "ns-nowrap",
      cell: (/** @type {Trial} */ trial) => parameterText(trial.params[path]),
    })),
    { label: "Steps", sort: "steps", class: "ns-nowrap", cell: (trial) => number(trial.steps) },
    {
      label: "Took",
      class: "ns-nowrap",
      cell: (trial) => (trial.ended_at ? duration(seconds(trial.started_at, trial.ended_at)) : ago(trial.started_at)),
    },
  ];
}

/** @param {Trial} trial @param {string} key */
const keyOf = (trial, key) => (key === "number" || key === "value" || key === "steps" ? trial[key] : trial.params[key]);

/** @param {Trial[]} trials */
function sorted(trials) {
  const [key, sign] = sort.startsWith("-") ? [sort.slice(1), -1] : [sort, 1];
  /** @param {unknown} value */
  const missing = (value) => value === null || value === undefined;
  return [...trials].sort((a, b) => {
    const [one, other] = [keyOf(a, key), keyOf(b, key)];
    if (missing(one) || missing(other)) return Number(missing(one)) - Number(missing(other));
    if (typeof one === "number" && typeof other === "number") return sign * (one - other);
    return sign * parameterText(one).localeCompare(parameterText(other));
  });
}

function drawTrials() {
  const trials = shown.trial_list;
  byId("sweep-trials").hidden = !trials.length;
  drawTable(byId("sweep-trials"), columns(), sorted(trials), {
    key: (trial) => trial.number,
    sort,
    onSort: (next) => {
      sort = next;
      drawTrials();
    },
  });
  fill(
    byId("sweep-empty"),
    trials.length ? null : empty("No trial yet", "Maintenance starts the first in a few seconds."),
  );
}

function drawCharts() {
  const found = compared(shown, shown.trial_list);
  for (const name of ["progress-card", "slice-card", "parallel-card"]) byId(name).hidden = found.jobs.length < 2;
  if (found.jobs.length < 2) return;
  drawProgress(byId("progress"), shown, found);
  const boxes = { slice: byId("slice"), tools: byId("slice-tools"), parallel: byId("parallel") };
  drawSpace(boxes, shown, found, view, (changes) => {
    view = /** @type {View} */ ({ ...view, ...changes });
    drawCharts();
  });
}

function drawSpec() {
  fill(
    byId("sweep-spec"),
    h("p", {}, h("strong", {}, work(shown.job)), `, up to ${shown.concurrency} trials at a time, seed ${shown.seed}.`),
    h(
      "dl",
      { class: "ns-params" },
      Object.entries(shown.space).map(([path, parameter]) => [h("dt", {}, path), h("dd", {}, rangeText(parameter))]),
    ),
    h(
      "details",
      {},
      h("summary", {}, "Full job"),
      h("pre", { class: "ns-spec", tabindex: 0 }, JSON.stringify(shown.job, null, 2)),
    ),
  );
}

/** @param {SweepPage} answer */
function draw(answer) {
  shown = answer;
  const { trial_list: trials, events, ...sweep } = shown;
  part("head", sweep, drawHead);
  part("best", [shown.best, shown.best_value, shown.outcome], drawBest);
  part("importance", shown.importance, () => drawImportance(byId("sweep-importance"), shown));
  part("charts", [trials.filter((trial) => trial.value !== null), shown.importance], drawCharts);
  part("trials", [trials, shown.best], drawTrials);
  part("spec", [shown.job, shown.space, shown.concurrency], drawSpec);
}

for (const name of ["progress", "slice", "parallel"]) walkable(byId(name));
draw(shown);
const updates = live(async (signal) => draw(await getJson(`/sweeps/${id}/data`, signal)), 2);
addEventListener("resize", drawCharts);
