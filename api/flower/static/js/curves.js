// Curves as columns of numbers, and what is computed from them. Nothing here draws.

import { chartOf, chartOrder } from "./figures.js";

/**
 * Insert a point by its step; a step measured again by a later attempt replaces the earlier value.
 * @param {Curves} curves
 * @param {{ name: string, step: number, epoch: number, value: number, at: number }} point
 */
export function addPoint(curves, { name, step, epoch, value, at }) {
  curves[name] ??= { step: [], epoch: [], value: [], at: [] };
  const curve = curves[name];
  /**
   * @param {number} index
   * @param {number} remove
   */
  const put = (index, remove) => {
    curve.step.splice(index, remove, step);
    curve.epoch.splice(index, remove, epoch);
    curve.value.splice(index, remove, value);
    curve.at.splice(index, remove, at);
  };
  let index = curve.step.length;
  while (index > 0 && curve.step[index - 1] > step) index -= 1;
  if (index > 0 && curve.step[index - 1] === step) put(index - 1, 1);
  else put(index, 0);
}

/**
 * Exponential moving average, corrected for its beginning (as TensorBoard does); weight 0 leaves values as they are.
 * @param {(number | null)[]} values
 * @param {number} weight
 */
export function smooth(values, weight) {
  if (!weight) return values;
  let [last, seen] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    last = last * weight + (1 - weight) * value;
    seen += 1;
    return last / (1 - weight ** seen);
  });
}

/**
 * Spread points that share one time over the seconds (at most 5) before it.
 * @param {number[]} times
 */
export function spread(times) {
  const spaced = [...times];
  for (let start = 0; start < times.length; ) {
    let end = start + 1; // a time that is no number equals not even itself
    while (end < times.length && times[end] === times[start]) end += 1;
    const before = Math.max(times[start] - 5, start > 0 ? Math.min(times[start], times[start - 1]) : times[start] - 1);
    for (let place = start; place < end; place += 1)
      spaced[place] = before + ((times[start] - before) * (place - start + 1)) / (end - start);
    start = end;
  }
  return spaced;
}

/**
 * Replace values that have no logarithm by null.
 * @param {(number | null)[]} values
 */
export const positive = (values) => values.map((value) => (value !== null && value > 0 ? value : null));

/**
 * Charts of one job: related metrics share one. [{title, names}]
 * @param {Iterable<string>} names
 */
export function grouped(names) {
  /** @type {Map<string, string[]>} */
  const groups = new Map();
  for (const name of [...names].sort()) {
    const title = chartOf(name);
    groups.set(title, [...(groups.get(title) || []), name]);
  }
  const titles = [...groups.keys()].sort((a, b) => chartOrder(a) - chartOrder(b) || a.localeCompare(b));
  return titles.map((title) => ({ title, names: groups.get(title) ?? [] }));
}

/** @param {Curve} curve */
export function summary(curve) {
  let [low, high] = [0, 0];
  curve.value.forEach((value, index) => {
    if (value < curve.value[low]) low = index;
    if (value > curve.value[high]) high = index;
  });
  const last = curve.value.length - 1;
  return {
    last: curve.value[last],
    low: curve.value[low],
    lowStep: curve.step[low],
    high: curve.value[high],
    highStep: curve.step[high],
    step: curve.step[last],
  };
}
