// Pieces shared by the list of sweeps and the page of one.

import { h } from "./dom.js";
import { number } from "./format.js";

/**
 * Return how many trials have ended, as a bar, and what became of them.
 * @param {Sweep} sweep
 */
export function trialsBar(sweep) {
  const ended = sweep.started - sweep.running;
  const told = [
    sweep.running ? `${sweep.running} running` : null,
    sweep.pruned ? `${sweep.pruned} pruned` : null,
    sweep.failed ? `${sweep.failed} failed` : null,
  ].filter(Boolean);
  const percent = Math.round((100 * ended) / sweep.trials);
  return h(
    "div",
    { class: "ns-progress-cell" },
    h(
      "div",
      {
        class: `ns-progress ns-progress-${sweep.state}`,
        role: "progressbar",
        "aria-valuenow": percent,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-label": "Trials",
      },
      h("div", { class: "ns-progress-fill", style: { width: `${percent}%` } }),
    ),
    h("span", { class: "ns-progress-text" }, `${ended} of ${sweep.trials}`),
    told.length ? h("span", { class: "ns-sub" }, told.join(", ")) : null,
  );
}

/**
 * Return the value of a parameter.
 * @param {unknown} value
 */
export const parameterText = (value) =>
  value === undefined
    ? "–"
    : typeof value === "number"
      ? number(value)
      : String(JSON.stringify(value)).replace(/^"|"$/g, "");

/**
 * Return a parameter's values in words: "0.001 to 0.1 (log)", "adam, sgd".
 * @param {SweepParameter} parameter
 */
export function rangeText({ choices, low, high, step, log, when }) {
  const values = choices ? choices.map(parameterText).join(", ") : `${number(low)} to ${number(high)}`;
  const how = log ? " (log)" : step ? ` in steps of ${number(step)}` : "";
  const conditions = Object.entries(when).map(
    ([path, value]) => `${path} is ${[value].flat().map(parameterText).join(" or ")}`,
  );
  return `${values}${how}${conditions.length ? `, if ${conditions.join(" and ")}` : ""}`;
}
