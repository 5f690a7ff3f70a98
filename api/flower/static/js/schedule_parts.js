// What the list of schedules and the page of one both show.

import { h } from "./dom.js";
import { exact } from "./format.js";
import { actionButton, config, url } from "./site.js";

const WHAT = { submitted: "its job was submitted", waiting: "waits for the job before it", skipped: "skipped", missed: "missed", failed: "its job could not be made" };

/** 2027-03-28T03:00:00+02:00 -> "Sun 28 Mar 2027, 03:00 +02:00": the schedule's own wall clock, not the reader's. */
export function wallClock(local) {
  const [, date, time, offset] = /^(.*)T(\d\d:\d\d(?::\d\d)?)(.*)$/.exec(local);
  const day = new Date(`${date}T00:00:00Z`).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  return `${day}, ${time.replace(/:00$/, (seconds, at) => (at === 5 ? "" : seconds))} ${offset === "+00:00" || offset === "Z" ? "UTC" : offset}`;
}

/** "28 Mar 01:00 UTC". */
export const utc = (time) => `${new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" })} ${time.slice(11, 16)} UTC`;

/** A tick is known by how its job ended, as soon as it has one. */
export const tickState = (tick) => (tick.outcome === "submitted" ? tick.job_state || "cancelled" : tick.outcome);

/** The newest ticks as small marks, oldest first; those with a job lead to it. */
export function strip(ticks) {
  const mark = (tick) => {
    const label = `${exact(tick.due_at)}: ${WHAT[tick.outcome]}${tick.job_state ? `, ${tick.job_state}` : ""}${tick.manual ? " (run by hand)" : ""}`;
    const attributes = { class: `ns-tick ns-${tickState(tick)}`, title: label, "aria-label": label };
    return tick.job_state ? h("a", { ...attributes, href: url(`/jobs/${tick.job_id}`), "data-key": `tick-${tick.job_id}` }) : h("span", { ...attributes, role: "img" });
  };
  return ticks.length ? h("div", { class: "ns-strip" }, ticks.map(mark)) : h("span", { class: "ns-muted" }, "none yet");
}

/** Run now, and pause or resume; nothing in read-only mode. */
export function buttons(schedule, then) {
  if (config.readOnly) return null;
  const path = `/schedules/${schedule.id}`;
  const pause = { question: `Pause ${schedule.name}?`, detail: "No job is made until it is resumed; ticks of the pause are not made up for. Jobs that run go on." };
  return h("div", { class: "ns-buttons ns-schedule-buttons" },
    actionButton("Run now", `${path}/run`, { then, title: "Submit its job at once; the next tick comes as before" }),
    schedule.enabled ? actionButton("Pause", `${path}/pause`, { ask: pause, then }) : actionButton("Resume", `${path}/resume`, { style: "primary", then }));
}

export const stateOf = (schedule) => h("span", { class: `ns-badge ns-${schedule.enabled ? "enabled" : "paused"}` }, schedule.enabled ? "enabled" : "paused");

/** "train cnn/mnist-3conv (torch) on digits". */
export function work(job) {
  const model = job.model ? [job.model.family, job.model.preset].filter(Boolean).join("/") : job.model_ref;
  return [job.kind.replaceAll("_", " "), model, job.model?.framework && `(${job.model.framework})`, job.dataset && `on ${job.dataset}`].filter(Boolean).join(" ");
}
