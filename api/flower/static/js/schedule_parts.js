// Pieces shared by the list of schedules and the page of one.

import { h } from "./dom.js";
import { exact } from "./format.js";
import { actionButton, config, url } from "./site.js";

/** @type {Record<TickOutcome, string>} */
const WHAT = {
  submitted: "job submitted",
  waiting: "waiting for the previous job",
  skipped: "skipped",
  missed: "missed",
  failed: "job could not be created",
};

/**
 * 2027-03-28T03:00:00+02:00 -> "Sun 28 Mar 2027, 03:00 +02:00": wall-clock time of the schedule.
 * @param {string} local
 */
export function wallClock(local) {
  const [, date, time, offset] = /^(.*)T(\d\d:\d\d(?::\d\d)?)(.*)$/.exec(local) ?? ["", local, "", ""];
  const day = new Date(`${date}T00:00:00Z`).toLocaleDateString("en-GB", {
    weekday: "short",
    day: "numeric",
    month: "short",
    year: "numeric",
    timeZone: "UTC",
  });
  const zone = ["+00:00", "Z"].includes(offset) ? "UTC" : offset;
  return `${day}, ${time.replace(/^(\d\d:\d\d):00$/, "$1")} ${zone}`;
}

/** @type {Intl.DateTimeFormatOptions} */
const UTC_DAY = { day: "numeric", month: "short", timeZone: "UTC" };
/**
 * "28 Mar 01:00 UTC".
 * @param {string} time
 */
export const utc = (time) => `${new Date(time).toLocaleDateString("en-GB", UTC_DAY)} ${time.slice(11, 16)} UTC`;

/**
 * Return the state of a tick: that of its job, if it has one.
 * @param {Tick} tick
 */
const tickState = (tick) => (tick.outcome === "submitted" ? tick.job_state || "cancelled" : tick.outcome);

/**
 * Return the newest ticks as marks, oldest first, linked to their jobs.
 * @param {Tick[]} ticks
 */
export function strip(ticks) {
  /** @param {Tick} tick */
  const mark = (tick) => {
    const known = [WHAT[tick.outcome], tick.job_state].filter(Boolean).join(", ");
    const label = `${exact(tick.due_at)}: ${known}${tick.manual ? " (manual)" : ""}`;
    const attributes = { class: `ns-tick ns-${tickState(tick)}`, title: label, "aria-label": label };
    return tick.job_state
      ? h("a", { ...attributes, href: url(`/jobs/${tick.job_id}`), "data-key": `tick-${tick.job_id}` })
      : h("span", { ...attributes, role: "img" });
  };
  return ticks.length ? h("div", { class: "ns-strip" }, ticks.map(mark)) : h("span", { class: "ns-muted" }, "none yet");
}

/**
 * Return the buttons Run now and Pause or Resume; null in read-only mode.
 * @param {Schedule} schedule
 * @param {() => unknown} done
 */
export function buttons(schedule, done) {
  if (config.readOnly) return null;
  const path = `/schedules/${schedule.id}`;
  const pause = {
    question: `Pause ${schedule.name}?`,
    detail: "No job is submitted until it is resumed; ticks during the pause are not run. Running jobs continue.",
  };
  return h(
    "div",
    { class: "ns-buttons ns-schedule-buttons" },
    actionButton("Run now", `${path}/run`, { done, title: "Submit its job now; the next ticks stay as they are" }),
    schedule.enabled
      ? actionButton("Pause", `${path}/pause`, { ask: pause, done })
      : actionButton("Resume", `${path}/resume`, { style: "primary", done }),
  );
}

/** @param {Schedule} schedule */
export const stateOf = (schedule) =>
  h(
    "span",
    { class: `ns-badge ns-${schedule.enabled ? "enabled" : "paused"}` },
    schedule.enabled ? "enabled" : "paused",
  );

/**
 * "train cnn/mnist-3conv (torch) on digits".
 * @param {Spec} job
 */
export function work(job) {
  const model = job.model ? [job.model.family, job.model.preset].filter(Boolean).join("/") : job.model_ref;
  return [
    job.kind.replaceAll("_", " "),
    model,
    job.model?.framework && `(${job.model.framework})`,
    job.dataset && `on ${job.dataset}`,
  ]
    .filter(Boolean)
    .join(" ");
}
