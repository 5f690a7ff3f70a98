// Facts of metrics by name, from the server's table (nightshift/metrics.py).

import { bytes, number, words } from "./format.js";
import { config } from "./site.js";

const table = config.facts.metrics;
/**
 * @param {string[]} words
 * @param {string} name
 */
const has = (words, name) => words.some((word) => name.includes(word));
/**
 * @param {string[]} words
 * @param {string} name
 */
const ends = (words, name) => words.some((word) => name.endsWith(word));

/**
 * Return the part of the data that a metric is measured on ("test_" or ""), and what a plug-in declares of it.
 * @param {string} name
 */
function declared(name) {
  const part = table.parts.find((start) => name.startsWith(start)) ?? "";
  const base = name.slice(part.length);
  return { part, own: Object.hasOwn(table.declared, base) ? table.declared[base] : null };
}

/**
 * Return a metric's name as people read it: "val loss", "test R²".
 * @param {string} name
 */
export function metricName(name) {
  const { part, own } = declared(name);
  return own ? words(part) + own.label : words(name);
}

/**
 * Return whether a metric is a mean over a few steps and so not a result of the run.
 * @param {string} name
 */
export const isOfSteps = (name) => table.ofSteps.includes(name);

/**
 * Return whether a metric describes the progress of training (speed, learning rate).
 * @param {string} name
 */
export const isPace = (name) => table.pace.includes(name);

/**
 * Return the name shown among results: "test loss", "loss (last batches)".
 * @param {string} name
 */
export const figureName = (name) => (isOfSteps(name) ? `${metricName(name)} (${table.lastSteps})` : metricName(name));

/**
 * Return the better direction, null if there is none.
 * @param {string} name
 * @returns {Better}
 */
export function better(name) {
  const { own } = declared(name);
  if (own) return own.better;
  if (ends(table.neither, name)) return null;
  if (has(table.lowerIsBetter, name)) return "min";
  return has(table.higherIsBetter, name) ? "max" : null;
}

/**
 * @param {Better} side
 * @returns {string | null}
 */
export const betterText = (side) => side && { max: "higher is better", min: "lower is better" }[side];

/**
 * Format a value: fractions as percent, sizes in bytes, the rest as a number.
 * @param {string} name
 * @param {number} value
 */
export function measure(name, value) {
  if (name.endsWith("_bytes")) return bytes(value);
  if (name.endsWith("_percent")) return `${number(value, 3)}%`;
  return has(table.fractions, name) && value >= 0 && value <= 1 ? `${(value * 100).toFixed(2)}%` : number(value);
}

/**
 * Sort key of results: by split, headline metrics first; metrics of steps last.
 * @param {string} name
 */
export function figureOrder(name) {
  const part = table.parts.findIndex((start) => name.startsWith(start));
  const place = table.headlines.indexOf(name);
  const own = declared(name).own ? 98 : 99;
  const rank = isOfSteps(name) ? table.parts.length : Math.max(part, 0);
  return 100 * rank + (place < 0 ? own : place);
}

/**
 * Return the title of the chart that a curve belongs to; related metrics share one.
 * @param {string} name
 */
export function chartOf(name) {
  const shared = table.charts.find((chart) => name === chart || name.endsWith(`_${chart}`));
  return shared ?? name.replace(/^val_/, "");
}

/**
 * Sort key of charts: known ones first, progress metrics last.
 * @param {string} title
 */
export function chartOrder(title) {
  const known = table.charts.indexOf(title);
  return known >= 0 ? known : table.charts.length + (isPace(title) ? 1 : 0);
}
