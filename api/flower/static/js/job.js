// The page of one job. The overview is redrawn on events; curves and log grow.

import { Charts, color, drawTools } from "./charts.js";
import { addPoint, grouped, summary } from "./curves.js";
import { byId, fill, h, pageData, patch } from "./dom.js";
import { editJob } from "./edit.js";
import { FILE as EVALUATION, evaluationOf } from "./evaluation.js";
import { kindLabel, kindOf } from "./facts.js";
import { figureName, figureOrder, isPace, measure, metricName } from "./figures.js";
import { duration, number, seconds } from "./format.js";
import {
  artifactsTable,
  attemptsTable,
  checkpointsTable,
  leaf,
  pictures,
  shardsTable,
  specList,
  timelineBar,
} from "./job_parts.js";
import { drawWhenOpened } from "./layers.js";
import { Log } from "./log.js";
import { CANCEL, empty, progressBar, stateBadge } from "./parts.js";
import { actionButton, ago, config, getJson, live, said, toast, url } from "./site.js";
import { drawEnvironment, followSystem } from "./system.js";

const LOG_LINES = 400;
/** @type {JobPage} */
const first = pageData();
const id = first.job.id;
const charts = new Charts(byId("curves"));
const log = new Log(byId("log"), byId("log-tools"), id, first.log, LOG_LINES);
let shown = first;
/** @type {Curves} */
let curves = {};
let seq = first.seq;
evaluationOf(id);
/** What a job has written replaces what its spec supposes. */
const drawLayers = drawWhenOpened("layers-card", "layers", () => `/jobs/${id}/layers?of=${shown.job.state}`);

const isFinal = () => ["succeeded", "failed", "cancelled"].includes(shown.job.state);

/** @type {Record<string, ActionOptions & { label: string }>} */
const ACTIONS = {
  pause: { label: "Pause", title: "Write a checkpoint and free the device" },
  resume: { label: "Resume", style: "primary", title: "Continue from the last checkpoint" },
  finish: {
    label: "Finish now",
    title: "Stop training and keep the best model",
    ask: {
      question: "Finish this job now?",
      detail: "Training ends at the next step; the best model so far is evaluated and kept. The job cannot be resumed.",
    },
  },
  cancel: { label: "Cancel", ...CANCEL },
  archive: { label: "Archive", title: "Hide it from lists; nothing is removed" },
  unarchive: { label: "Unarchive", title: "Show it in lists again" },
  delete: {
    label: "Delete",
    style: "outline-danger",
    title: "Delete permanently",
    ask: {
      question: "Delete this job permanently?",
      detail: "Its files, checkpoints, metrics, log and events are removed. This cannot be undone.",
    },
  },
};

function actionButtons() {
  const compare = h(
    "a",
    { class: "btn btn-sm btn-outline-secondary", href: url(`/compare?ids=${id}`), "data-key": "compare" },
    "Compare",
  );
  if (config.readOnly)
    return [compare, h("span", { class: "ns-badge", title: "NIGHTSHIFT_FLOWER_READ_ONLY" }, "read-only")];
  const again = h(
    "a",
    {
      class: `btn btn-sm btn-${isFinal() ? "primary" : "outline-secondary"}`,
      href: url(`/jobs/new?like=${id}`),
      title: "Change its spec, or nothing, and submit a new job",
      "data-key": "again",
    },
    "Run again",
  );
  const edit = h(
    "button",
    {
      class: "btn btn-sm btn-outline-secondary",
      type: "button",
      title: "Name, notes, tags, priority",
      "data-key": "edit",
      onclick: () => editJob(shown.job, updates.now),
    },
    "Edit",
  );
  const repeat = isFinal()
    ? h(
        "a",
        {
          class: "btn btn-sm btn-outline-secondary",
          href: url(`/schedules?of=${id}`),
          title: "Submit it again on a schedule",
          "data-key": "repeat",
        },
        "Schedule",
      )
    : null;
  return [
    compare,
    edit,
    again,
    repeat,
    ...shown.actions.map((name) =>
      actionButton(ACTIONS[name].label, `/jobs/${id}/${name}`, { ...ACTIONS[name], done: () => acted(name) }),
    ),
  ];
}

/** @type {Record<string, string>} */
const ASKED = {
  pause: "Pause requested: takes effect at the next step.",
  resume: "Queued again.",
  finish: "Finish requested: takes effect at the next step.",
  cancel: "Cancel requested: a running job stops at the next step.",
};

/** @param {string} name */
async function acted(name) {
  if (name === "delete") return location.assign(url("/jobs"));
  if (name.endsWith("archive")) return location.reload(); // no event tells of it
  toast(ASKED[name]);
  await updates.now();
}

/**
 * What a resumed run is worth.
 * @type {Record<string, string>}
 */
const PROMISES = { exact: "resumes exactly", resumable: "resumes", restart: "starts anew" };

/** @param {string} path */
const settingName = (path) => path.replace(/^(training|model|params|inference|resources)\./, "").replaceAll("_", " ");
/** @param {unknown} value */
const valueText = (value) => (value === null ? "none" : leaf(value));

/** Return the origin of a copied job and the changes. */
function like() {
  const origin = shown.job.copied_from;
  if (!origin) return null;
  const said = origin.changes
    .filter(({ path }) => path !== "name")
    .map(({ path, before, after }, place) => [
      place ? ", " : null,
      h(
        "span",
        { class: "ns-change-of", title: path },
        `${settingName(path)} ${valueText(before)} → ${valueText(after)}`,
      ),
    ]);
  return h(
    "p",
    { class: "ns-like" },
    "Copy of ",
    h("a", { href: url(`/jobs/${origin.id}`) }, origin.name || origin.id.slice(0, 8)),
    said.length ? ", changed: " : ", unchanged",
    said,
  );
}

/**
 * Return the label and value of what a job runs: its model, or its program with the pinned package; and what a resumed
 * run is worth.
 * @param {JobPage["job"]} job
 * @returns {[string, ...Child[]]}
 */
function model({ spec = {}, family, framework, pinned, promise }) {
  const below = (/** @type {(string | null | undefined | false)[]} */ ...facts) =>
    h("span", { class: "ns-sub" }, facts.filter(Boolean).join(" · "));
  const resumes = PROMISES[promise ?? ""];
  if (spec.program) return ["Program", spec.program, below(pinned?.package, resumes, framework)];
  return ["Model", spec.model?.preset || spec.model_ref || family || "–", below(family, framework, resumes)];
}

/**
 * Return the job that a shard is a part of.
 * @param {JobPage["job"]} job
 */
function partOf({ part_of: whole, shard, shards }) {
  if (!whole) return null;
  return h("span", { class: "ns-sub" }, `${shard} of ${shards} of `, h("a", { href: url(`/jobs/${whole}`) }, whole));
}

function facts() {
  const { job } = shown;
  const end = job.finished_at || shown.now;
  /**
   * @param {string} label
   * @param {Child[]} value
   */
  const fact = (label, ...value) => h("div", { class: "ns-fact" }, h("dt", {}, label), h("dd", {}, value));
  return h(
    "dl",
    { class: "ns-facts" },
    job.progress || job.state === "succeeded" ? fact("Progress", progressBar(job)) : null,
    fact("Kind", kindLabel(job.kind), partOf(job)),
    fact(...model(job)),
    fact("Data set", job.dataset || "–"),
    fact("Device", job.device || "–", job.worker ? h("span", { class: "ns-sub" }, job.worker) : null),
    fact(
      job.finished_at ? "Duration" : job.state === "running" ? "Running for" : "Since start",
      job.started_at ? duration(seconds(job.started_at, end)) : "–",
      job.progress?.samples_per_second
        ? h("span", { class: "ns-sub" }, `${number(Math.round(job.progress.samples_per_second))} samples/s`)
        : null,
    ),
    fact("Submitted", ago(job.created_at), h("span", { class: "ns-sub" }, `by ${shown.who}, priority ${job.priority}`)),
    Object.keys(job.tags || {}).length
      ? fact(
          "Tags",
          Object.entries(job.tags).map(([key, value]) => h("span", { class: "ns-tag" }, `${key}=${value}`)),
        )
      : null,
  );
}

function why() {
  const { job } = shown;
  const tone = job.state === "failed" ? "failed" : job.state === "succeeded" ? "succeeded" : job.state;
  return h("div", { class: `ns-why-box ns-${tone}` }, shown.why.sentence);
}

function results() {
  const measured = Object.entries(shown.job.result?.metrics || {})
    .flatMap(([name, value]) => (typeof value === "number" && !isPace(name) ? [{ name, value }] : []))
    .sort((a, b) => figureOrder(a.name) - figureOrder(b.name));
  if (!measured.length) return null;
  return h(
    "dl",
    { class: "ns-results" },
    measured.map(({ name, value }) =>
      h("div", { class: "ns-result" }, h("dt", {}, figureName(name)), h("dd", {}, measure(name, value))),
    ),
  );
}

function drawOverview() {
  patch(
    byId("job-state"),
    stateBadge(shown.job.state, shown.job.stop_requested),
    shown.job.archived_at ? h("span", { class: "ns-badge" }, "archived") : null,
  );
  patch(byId("job-actions"), actionButtons());
  patch(byId("job-why"), like(), why());
  patch(byId("job-facts"), facts(), results());
  byId("job-notes").hidden = !shown.job.notes;
  byId("job-notes").textContent = shown.job.notes || "";
  /** @type {HTMLElement} */ (document.querySelector("h1")).textContent =
    shown.job.name || `${shown.job.kind} ${id.slice(0, 8)}`;
  patch(byId("attempts"), timelineBar(shown.timeline, shown.now), attemptsTable(shown.attempts, shown.now));
  drawEnvironment(shown.attempts);
  patch(byId("checkpoints"), checkpointsTable(shown.checkpoints, isFinal()));
  patch(byId("artifacts"), artifactsTable(shown.artifacts, id, isFinal()));
  byId("shards-card").hidden = !shown.shards.length;
  patch(byId("shards"), shardsTable(shown.shards));
  byId("pictures-card").hidden = !shown.artifacts.some((file) => file.media_type.startsWith("image/"));
  pictures(byId("pictures"), shown.artifacts, id);
  byId("evaluation-card").hidden = !shown.artifacts.some(({ path }) => path === EVALUATION);
  byId("layers-card").hidden = !kindOf(shown.job.kind)?.trains;
  drawLayers();
}

function drawCurves() {
  const names = Object.keys(curves);
  if (!names.length) {
    fill(
      byId("curves-summary"),
      empty("No metrics yet", isFinal() ? "This job recorded no metrics." : "Curves appear here with the first steps."),
    );
    return;
  }
  const from = Date.parse(shown.job.started_at || shown.job.created_at) / 1000;
  charts.draw(
    grouped(names).map(({ title, names: members }) => ({
      title,
      lines: members.map((name, place) => ({
        label: metricName(name),
        name,
        color: color(place),
        curve: curves[name],
        from,
      })),
    })),
  );
  fill(byId("curves-summary"), summaryTable(names.sort()));
}

/** @param {string[]} names */
function summaryTable(names) {
  const rows = names.map((name) => {
    const { last, step, low, lowStep, high, highStep } = summary(curves[name]);
    /**
     * @param {number} value
     * @param {number} at
     */
    const cell = (value, at) =>
      h("td", { class: "ns-number" }, measure(name, value), h("span", { class: "ns-sub" }, `step ${number(at)}`));
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, metricName(name)),
      cell(last, step),
      cell(low, lowStep),
      cell(high, highStep),
    );
  });
  return h(
    "details",
    { class: "ns-details", open: byId("curves-summary").querySelector("details")?.open },
    h("summary", {}, "Values as a table"),
    h(
      "div",
      { class: "ns-scroll", tabindex: 0 },
      h(
        "table",
        { class: "ns-table" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Metric", "Latest", "Lowest", "Highest"].map((label, place) =>
              h("th", { scope: "col", class: place ? "ns-number" : null }, label),
            ),
          ),
        ),
        h("tbody", {}, rows),
      ),
    ),
  );
}

async function loadCurves() {
  const answer = await getJson(`/jobs/${id}/curves`);
  curves = answer.curves;
  drawCurves();
}

/** @param {JobEvent[]} events */
function take(events) {
  const points = events.filter((event) => event.type === "metric");
  for (const { at, data } of points) addPoint(curves, { ...data, at: Date.parse(at) / 1000 });
  log.add(
    events.filter((event) => event.type === "log").map(({ seq: number_, at, data }) => ({ seq: number_, at, ...data })),
  );
  if (points.length) drawCurves();
}

/** @param {AbortSignal} signal */
async function update(signal) {
  let answer;
  do {
    answer = await getJson(`/jobs/${id}/live?after=${seq}`, signal);
    if (answer.overview) shown = answer.overview;
    if (answer.events.length) seq = Math.max(seq, answer.events.at(-1).seq);
    take(answer.events);
  } while (answer.more);
  if (answer.overview) drawOverview();
  // Too many points for a chart: load a thinned curve.
  if (Object.values(curves).some((curve) => curve.step.length > 3000)) await loadCurves();
  if (isFinal() && !answer.events.length) updates.stop("Ended");
}

drawOverview();
fill(byId("spec"), specList(first.job.spec));
fill(
  byId("spec-tools"),
  h(
    "button",
    {
      type: "button",
      class: "btn btn-sm btn-outline-secondary",
      onclick: () =>
        navigator.clipboard.writeText(JSON.stringify(first.job.spec, null, 2)).then(
          () => toast("Spec copied."),
          () => toast("The browser denied access to the clipboard.", "danger"),
        ),
    },
    "Copy JSON",
  ),
);
drawTools(byId("curves-tools"), drawCurves);
for (const [place, file, label, what] of [
  ["curves-tools", "metrics.csv", "CSV", "all points as CSV"],
  ["log-tools", "log.txt", "Save", "the whole log"],
]) {
  byId(place).append(
    h(
      "a",
      {
        class: "btn btn-sm btn-outline-secondary",
        href: url(`/jobs/${id}/${file}`),
        download: true,
        title: `Download ${what}`,
        "aria-label": `Download ${what}`,
      },
      label,
    ),
  );
}
followSystem(id, () => Date.parse(shown.job.started_at || shown.job.created_at) / 1000, isFinal);
const updates = live(update, 1.5);
loadCurves().catch((error) => toast(said(error), "danger"));
if (isFinal()) updates.stop("Ended");
