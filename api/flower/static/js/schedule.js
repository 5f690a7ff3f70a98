// The page of one schedule: next runs, job, and the outcome of every tick.

import { byId, fill, h, pageData, parts } from "./dom.js";
import { metricName } from "./figures.js";
import { duration } from "./format.js";
import { empty, stateBadge } from "./parts.js";
import { scheduleDialog } from "./schedule_dialog.js";
import { buttons, stateOf, utc, wallClock, work } from "./schedule_parts.js";
import { actionButton, ago, config, getJson, live, said, toast, url } from "./site.js";
import { drawTable } from "./table.js";

/** @type {SchedulePage} */
let shown = pageData();
/** @type {Paged<Tick>} */
let older = { items: [], next: null };
const part = parts();
const { id } = shown.schedule;

/** @type {Record<Schedule["catch_up"], (limit: number) => string>} */
const CATCH_UP = {
  none: () => "Missed ticks are not run.",
  latest: () => "Of missed ticks, the newest is run.",
  all: (limit) => `Of missed ticks, the newest ${limit} are run.`,
};
const OVERLAP = {
  skip: "A tick is skipped while the previous job is unfinished.",
  queue: "A tick waits until the previous job has ended.",
  cancel_running: "A tick cancels the previous job if it is unfinished.",
};

/** @param {Schedule} schedule */
async function change(schedule) {
  const changed = await scheduleDialog(schedule);
  if (!changed) return;
  if (changed.name !== schedule.name) location.reload();
  else updates.now();
}

/** @param {Schedule} schedule */
const changeButton = (schedule) =>
  h(
    "button",
    {
      class: "btn btn-sm btn-outline-secondary",
      type: "button",
      "data-key": "change",
      onclick: () => change(schedule),
    },
    "Change",
  );

/** @param {Schedule} schedule */
function deleteButton(schedule) {
  const ask = {
    question: `Delete ${schedule.name}?`,
    detail: "Its history is deleted. Its jobs are kept, and running ones continue.",
  };
  return actionButton("Delete", `/schedules/${id}/delete`, { ask, done: () => location.assign(url("/schedules")) });
}

/** @param {Schedule} schedule */
const controls = (schedule) =>
  h(
    "div",
    { class: "ns-buttons" },
    buttons(schedule, () => updates.now()),
    changeButton(schedule),
    deleteButton(schedule),
  );

/**
 * Return what it submits, in one sentence.
 * @param {Spec} job
 */
const sentence = ({ register_as: name, promote, ...job }) =>
  h(
    "p",
    {},
    h("strong", {}, work(job)),
    name ? ["; its model is registered as ", h("a", { href: url(`/models/${name}`) }, name)] : null,
    promote ? `, and promoted if its ${metricName(promote.metric)} beats the champion's` : null,
    ".",
  );

/**
 * Return its rules for ticks that overlap, change nothing, or were missed.
 * @param {Schedule} schedule
 */
function rules({
  overlap,
  skip_if_unchanged: skips,
  catch_up: catchUp,
  catch_up_limit: limit,
  max_lateness_seconds: most,
}) {
  const said = [
    OVERLAP[overlap],
    skips && "It is also skipped if data, settings and parent model are unchanged since the last job that succeeded.",
    CATCH_UP[catchUp](limit),
    most !== null && `A tick more than ${duration(most)} late counts as missed.`,
  ];
  return h("p", { class: "ns-muted" }, said.filter(Boolean).join(" "));
}

function drawHead() {
  const { schedule } = shown;
  fill(
    byId("schedule-facts"),
    stateOf(schedule),
    h("code", { class: "ns-cron" }, schedule.cron),
    h("span", { class: "ns-muted" }, schedule.timezone),
  );
  fill(byId("schedule-buttons"), config.readOnly ? null : controls(schedule));
  fill(
    byId("schedule-job"),
    sentence(schedule.job),
    rules(schedule),
    h(
      "details",
      {},
      h("summary", {}, "Full spec"),
      h("pre", { class: "ns-spec", tabindex: 0 }, JSON.stringify(schedule.job, null, 2)),
    ),
  );
}

function drawNext() {
  /** @param {LocalTime} time */
  const row = (time) =>
    h(
      "li",
      {},
      h("span", { class: "ns-change" }, wallClock(time.local)),
      h("span", { class: "ns-muted" }, utc(time.utc)),
      ago(time.utc),
    );
  fill(
    byId("schedule-next"),
    shown.schedule.enabled ? null : h("li", { class: "ns-muted" }, "Paused. Without the pause it would run at:"),
    shown.next.map(row),
  );
}

/** @type {Column<Tick>[]} */
const COLUMNS = [
  {
    label: "Tick",
    class: "ns-nowrap",
    cell: (tick) => [
      wallClock(tick.due_at_local),
      h("span", { class: "ns-sub" }, tick.manual ? "manual · " : null, ago(tick.due_at)),
    ],
  },
  { label: "Outcome", cell: (tick) => stateBadge(tick.outcome) },
  {
    label: "Job",
    cell: (tick) =>
      tick.job_id && !tick.job_state
        ? h("span", { class: "ns-muted" }, `${tick.job_id.slice(0, 8)} deleted`)
        : tick.job_id
          ? [
              h(
                "a",
                { class: "ns-name", href: url(`/jobs/${tick.job_id}`), "data-key": `job-${tick.job_id}` },
                tick.job_id.slice(0, 8),
              ),
              " ",
              stateBadge(tick.job_state ?? ""),
            ]
          : h("span", { class: "ns-muted" }, "–"),
  },
  { label: "Why", class: "ns-wide", cell: (tick) => tick.reason || h("span", { class: "ns-muted" }, "–") },
];

function drawTicks() {
  const items = [...shown.history.items, ...older.items];
  byId("schedule-ticks").hidden = !items.length;
  drawTable(byId("schedule-ticks"), COLUMNS, items, { key: (tick) => tick.due_at });
  fill(
    byId("schedule-empty"),
    items.length
      ? null
      : empty("No tick yet", shown.schedule.enabled ? "The first one is at the time above." : "It is paused."),
  );
  const next = older.items.length ? older.next : shown.history.next;
  fill(
    byId("schedule-more"),
    next
      ? h(
          "button",
          { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => showOlder(next) },
          "Older ticks",
        )
      : null,
  );
}

/** @param {string} cursor */
async function showOlder(cursor) {
  try {
    const { items, next } = await getJson(`/schedules/${id}/history?cursor=${encodeURIComponent(cursor)}`);
    older = { items: [...older.items, ...items], next };
    drawTicks();
  } catch (error) {
    toast(said(error), "danger");
  }
}

/** @param {SchedulePage} answer */
function draw(answer) {
  shown = answer;
  const { next_at, next_at_local, last_tick, ...lasting } = shown.schedule;
  part("head", lasting, drawHead);
  part("next", [shown.next, lasting.enabled], drawNext);
  part("ticks", shown.history, () => {
    older = { items: [], next: null };
    drawTicks();
  });
}

draw(shown);
const updates = live(async (signal) => draw(await getJson(`/schedules/${id}/data`, signal)), 3);
