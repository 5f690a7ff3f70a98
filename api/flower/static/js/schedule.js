// One schedule: its next times, what it submits, and every tick with what became of it.

import { byId, fill, h, pageData } from "./dom.js";
import { duration } from "./format.js";
import { empty, stateBadge } from "./parts.js";
import { scheduleDialog } from "./schedule_dialog.js";
import { buttons, stateOf, utc, wallClock, work } from "./schedule_parts.js";
import { actionButton, ago, config, getJson, live, toast, url } from "./site.js";
import { drawTable } from "./table.js";

let shown = pageData();
let older = [];
const drawn = {};
const { id } = shown.schedule;

const CATCH_UP = {
  none: () => "Ticks that were missed while nothing ran are not made up for.",
  latest: () => "Of ticks that were missed while nothing ran, the newest is made up for.",
  all: (limit) => `Of ticks that were missed while nothing ran, the newest ${limit} are made up for.`,
};
const OVERLAP = {
  skip: "A tick is skipped while a job of it is not done.",
  queue: "A tick waits while a job of it is not done.",
  cancel_running: "A tick cancels a job of it that is not done.",
};

async function change(schedule) {
  const changed = await scheduleDialog(schedule);
  if (!changed) return;
  if (changed.name !== schedule.name) location.reload();
  else updates.now();
}

const changeButton = (schedule) => h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", "data-key": "change", onclick: () => change(schedule) }, "Change");

function deleteButton(schedule) {
  const ask = { question: `Delete ${schedule.name}?`, detail: "Its history goes with it. Jobs that it made stay, and those that run go on." };
  return actionButton("Delete", `/schedules/${id}/delete`, { ask, then: () => location.assign(url("/schedules")) });
}

function drawHead() {
  const { schedule } = shown;
  fill(byId("schedule-facts"), stateOf(schedule), h("code", { class: "ns-cron" }, schedule.cron), h("span", { class: "ns-muted" }, schedule.timezone));
  fill(byId("schedule-buttons"), config.readOnly ? null : h("div", { class: "ns-buttons" }, buttons(schedule, () => updates.now()), changeButton(schedule), deleteButton(schedule)));
  const late = schedule.max_lateness_seconds === null ? null : `One that is later than ${duration(schedule.max_lateness_seconds)} counts as missed.`;
  fill(byId("schedule-job"),
    h("p", {}, h("strong", {}, work(schedule.job)), schedule.job.register_as ? ["; its model is registered as ", h("a", { href: url(`/models/${schedule.job.register_as}`) }, schedule.job.register_as)] : null,
      schedule.job.promote ? `, and promoted if its ${schedule.job.promote.metric.replaceAll("_", " ")} beats the champion's` : null, "."),
    h("p", { class: "ns-muted" }, [OVERLAP[schedule.overlap], schedule.skip_if_unchanged ? "It is skipped too while data, settings and parent model are those of the last job that succeeded." : null, CATCH_UP[schedule.catch_up](schedule.catch_up_limit), late].filter(Boolean).join(" ")),
    h("details", {}, h("summary", {}, "The complete spec"), h("pre", { class: "ns-spec", tabindex: 0 }, JSON.stringify(schedule.job, null, 2))));
}

function drawNext() {
  const row = (time) => h("li", {}, h("span", { class: "ns-change" }, wallClock(time.local)), h("span", { class: "ns-muted" }, utc(time.utc)), ago(time.utc));
  fill(byId("schedule-next"), shown.schedule.enabled ? null : h("li", { class: "ns-muted" }, "Paused. If it were not, it would come at:"), shown.next.map(row));
}

const COLUMNS = [
  { label: "Tick", class: "ns-nowrap", cell: (tick) => [wallClock(tick.due_at_local), h("span", { class: "ns-sub" }, tick.manual ? "run by hand · " : null, ago(tick.due_at))] },
  { label: "What became of it", cell: (tick) => stateBadge(tick.outcome) },
  { label: "Job", cell: (tick) => (tick.job_id && !tick.job_state ? h("span", { class: "ns-muted" }, `${tick.job_id.slice(0, 8)} deleted`) : tick.job_id ? [h("a", { class: "ns-name", href: url(`/jobs/${tick.job_id}`), "data-key": `job-${tick.job_id}` }, tick.job_id.slice(0, 8)), " ", stateBadge(tick.job_state)] : h("span", { class: "ns-muted" }, "–")) },
  { label: "Why", class: "ns-wide", cell: (tick) => tick.reason || h("span", { class: "ns-muted" }, "–") },
];

function drawTicks() {
  const items = [...shown.history.items, ...older];
  byId("schedule-ticks").hidden = !items.length;
  drawTable(byId("schedule-ticks"), COLUMNS, items, { key: (tick) => tick.due_at });
  fill(byId("schedule-empty"), items.length ? null : empty("No tick yet", shown.schedule.enabled ? "The first one comes at the time above." : "It is paused."));
  const next = older.length ? older.next : shown.history.next;
  fill(byId("schedule-more"), next ? h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => showOlder(next) }, "Older ticks") : null);
}

async function showOlder(cursor) {
  try {
    const { items, next } = await getJson(`/schedules/${id}/history?cursor=${encodeURIComponent(cursor)}`);
    older = Object.assign([...older, ...items], { next });
    drawTicks();
  } catch (error) {
    toast(error.message, "danger");
  }
}

/** Draw a part only when what it shows has changed. */
function part(name, value, drawPart) {
  const text = JSON.stringify(value);
  if (drawn[name] === text) return;
  drawn[name] = text;
  drawPart();
}

function draw(answer) {
  shown = answer;
  const { next_at, next_at_local, last_tick, ...lasting } = shown.schedule;
  part("head", lasting, drawHead);
  part("next", [shown.next, lasting.enabled], drawNext);
  part("ticks", shown.history, () => { older = []; drawTicks(); });
}

draw(shown);
const updates = live(async (signal) => draw(await getJson(`/schedules/${id}/data`, signal)), 3);
