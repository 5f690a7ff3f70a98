// Small pieces that several pages show: states, progress, sparklines.

import { h, svg } from "./dom.js";
import { duration, exact, number } from "./format.js";

/** What pressing a job's Cancel is asked first. */
export const CANCEL = { style: "outline-danger", title: "Stop and keep nothing more", ask: { question: "Cancel this job?", detail: "It stops at its next step and no result is kept. This cannot be undone." } };

/** A state in words and colour; a request to stop is said beside it. */
export const stateBadge = (state, request = null) => [
  h("span", { class: `ns-badge ns-${state}` }, state.replaceAll("_", " ")),
  request && state === "running" ? h("span", { class: "ns-badge ns-asked", title: "Asked to; it hears at its next step" }, `${request} asked`) : null,
];

/** Per cent as a bar; while it runs, the time left. */
export function progressBar(job) {
  const progress = job.progress;
  const percent = job.state === "succeeded" ? 100 : progress?.percent;
  if (percent === null || percent === undefined) return h("span", { class: "ns-muted" }, "–");
  const left = job.state === "running" && progress?.eta_seconds ? `${duration(progress.eta_seconds)} left` : null;
  const steps = progress?.step ? `step ${number(progress.step)}${progress.total_steps ? ` of ${number(progress.total_steps)}` : ""}` : null;
  const text = `${Math.floor(percent)} %`;
  return h("div", { class: "ns-progress-cell", title: steps },
    h("div", { class: `ns-progress ns-progress-${job.state}`, role: "progressbar", "aria-valuenow": Math.floor(percent), "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": "Progress" },
      h("div", { class: "ns-progress-fill", style: { width: `${Math.min(100, Math.max(0, percent))}%` } })),
    h("span", { class: "ns-progress-text" }, text, left ? h("span", { class: "ns-muted" }, ` · ${left}`) : null));
}

/** A curve of [[x, y], …] as a line; its title tells first and last value. */
export function sparkline(points, { width = 92, height = 26, label = "" } = {}) {
  if (!points || points.length < 2) return h("span", { class: "ns-muted" }, points?.length ? "•" : "–");
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [left, right, low, high] = [xs[0], xs[xs.length - 1], Math.min(...ys), Math.max(...ys)];
  const x = (value) => 2 + ((value - left) / (right - left || 1)) * (width - 4);
  const y = (value) => height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
  const title = `${label} ${number(ys[0])} → ${number(ys[ys.length - 1])}`;
  return svg("svg", { class: "ns-spark", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    svg("title", {}, title),
    svg("polyline", { points: points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ") }),
    svg("circle", { cx: x(right).toFixed(1), cy: y(ys[ys.length - 1]).toFixed(1), r: 2 }));
}

/** Words for nothing to show, with what to do about it. */
export const empty = (title, ...what) => h("div", { class: "ns-empty" }, h("h2", {}, title), ...what.map((line) => h("p", {}, line)));

export const timeTitle = (time) => (time ? exact(time) : null);
