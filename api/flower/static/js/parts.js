// Small pieces that several pages show: states, progress, sparklines.

import { h, svg } from "./dom.js";
import { duration, number } from "./format.js";

/** The Cancel action of a job, with its question. */
export const CANCEL = {
  style: "outline-danger",
  title: "Stop without a result",
  ask: {
    question: "Cancel this job?",
    detail: "It stops at the next step and no result is kept. This cannot be undone.",
  },
};

/**
 * Return a badge of the state, and one of a pending stop request.
 * @param {string} state
 * @param {string | null} request
 * @returns {Child[]}
 */
export const stateBadge = (state, request = null) => [
  h("span", { class: `ns-badge ns-${state}` }, state.replaceAll("_", " ")),
  request && state === "running"
    ? h("span", { class: "ns-badge ns-asked", title: "Takes effect at the next step" }, `${request} requested`)
    : null,
];

/**
 * Return the progress as a bar, with the time left while it runs.
 * @param {Pick<Job, "state" | "progress">} job
 */
export function progressBar(job) {
  const progress = job.progress;
  const percent = job.state === "succeeded" ? 100 : progress?.percent;
  if (percent === null || percent === undefined) return h("span", { class: "ns-muted" }, "–");
  const left = job.state === "running" && progress?.eta_seconds ? `${duration(progress.eta_seconds)} left` : null;
  const steps = progress?.step
    ? `step ${number(progress.step)}${progress.total_steps ? ` of ${number(progress.total_steps)}` : ""}`
    : null;
  const text = `${Math.floor(percent)}%`;
  return h(
    "div",
    { class: "ns-progress-cell", title: steps },
    h(
      "div",
      {
        class: `ns-progress ns-progress-${job.state}`,
        role: "progressbar",
        "aria-valuenow": Math.floor(percent),
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-label": "Progress",
      },
      h("div", { class: "ns-progress-fill", style: { width: `${Math.min(100, Math.max(0, percent))}%` } }),
    ),
    h("span", { class: "ns-progress-text" }, text, left ? h("span", { class: "ns-muted" }, ` · ${left}`) : null),
  );
}

/**
 * Return a small line chart; its title has the first and last value.
 * @param {[number, number][] | null} points
 */
export function sparkline(points, { width = 92, height = 26, label = "" } = {}) {
  if (!points || points.length < 2) return h("span", { class: "ns-muted" }, points?.length ? "•" : "–");
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [left, right, low, high] = [xs[0], xs[xs.length - 1], Math.min(...ys), Math.max(...ys)];
  /** @param {number} value */
  const x = (value) => 2 + ((value - left) / (right - left || 1)) * (width - 4);
  /** @param {number} value */
  const y = (value) => height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
  const title = `${label} ${number(ys[0])} → ${number(ys[ys.length - 1])}`;
  return svg(
    "svg",
    { class: "ns-spark", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    svg("title", {}, title),
    svg("polyline", { points: points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ") }),
    svg("circle", { cx: x(right).toFixed(1), cy: y(ys[ys.length - 1]).toFixed(1), r: 2 }),
  );
}

/**
 * Return a message for an empty page, with what to do.
 * @param {string} title
 * @param {Child[]} what
 */
export const empty = (title, ...what) =>
  h("div", { class: "ns-empty" }, h("h2", {}, title), ...what.map((line) => h("p", {}, line)));
