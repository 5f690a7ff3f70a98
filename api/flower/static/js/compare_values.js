// Results and settings of compared jobs as columns of values. Nothing here draws.

import { kindLabel } from "./facts.js";
import { figureName, figureOrder, measure, metricName } from "./figures.js";
import { duration, number, seconds } from "./format.js";

/** @param {Pick<Job, "name" | "kind" | "dataset">} job */
export const title = (job) => job.name || `${kindLabel(job.kind)} ${job.dataset || ""}`.trim();
/** @param {Job} job */
export const short = (job) => `${title(job)} · ${job.id.slice(0, 4)}`;
/** @param {Job} job */
export const isFinal = (job) => ["succeeded", "failed", "cancelled"].includes(job.state);

/** @param {Job} job */
const took = (job) => (job.started_at ? seconds(job.started_at, job.finished_at || new Date().toISOString()) : null);
/**
 * @param {ComparedJob[]} jobs
 * @param {"results" | "best" | "settings" | "tags"} part
 */
const names = (jobs, part) => [...new Set(jobs.flatMap((job) => Object.keys(job[part] || {})))].sort();
/** @param {unknown} value */
const there = (value) => value !== null && value !== undefined;
/** @param {unknown} value */
const words = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

/**
 * @param {string} key
 * @param {string} label
 * @param {CompareColumn["group"]} group
 * @param {unknown[]} values
 * @param {{ sense?: Better, text?: (value: any) => string }} options
 * @returns {CompareColumn}
 */
function column(key, label, group, values, { sense = null, text } = {}) {
  const present = values.filter(there);
  return {
    key,
    label,
    group,
    values,
    sense,
    text: text || ((value) => (!there(value) ? "–" : typeof value === "number" ? number(value) : words(value))),
    numeric: present.length > 0 && present.every((value) => typeof value === "number"),
    differs: new Set(values.map((value) => (there(value) ? words(value) : ""))).size > 1,
  };
}

/**
 * Sort key of results: metrics with a better direction first.
 * @param {CompareColumn} column
 */
const tells = ({ key, sense }) => (sense ? 0 : 10_000) + figureOrder(key);
/**
 * Sort key of settings: training and data set, then model, then the rest; rare ones last.
 * @param {CompareColumn} column
 */
const matters = ({ key, values }) =>
  (values.filter(there).length * 2 < values.length ? 4 : 0) +
  (key.startsWith("training.") || key === "dataset" ? 0 : key.startsWith("model.") ? 1 : 2);

/**
 * Return every value of the jobs, as columns.
 * @param {ComparedJob[]} jobs
 * @param {Record<string, Better>} senses
 */
export function columnsOf(jobs, senses) {
  /** @param {string} name */
  const metric = (name) => ({
    sense: senses[name] || null,
    text: (/** @type {unknown} */ value) => (typeof value === "number" ? measure(name, value) : "–"),
  });
  const results = names(jobs, "results").map((name) =>
    column(
      name,
      figureName(name),
      "results",
      jobs.map((job) => job.results[name]),
      metric(name),
    ),
  );
  const best = names(jobs, "best").map((name) =>
    column(
      `best.${name}`,
      `best ${metricName(name)}`,
      "best",
      jobs.map((job) => job.best[name]),
      metric(name),
    ),
  );
  const facts = [
    column(
      "name",
      "name",
      "job",
      jobs.map((job) => job.name),
    ),
    column(
      "state",
      "state",
      "job",
      jobs.map((job) => job.state),
    ),
    column("duration", "duration", "job", jobs.map(took), { text: duration }),
  ];
  const dataset = column(
    "dataset",
    "data set",
    "settings",
    jobs.map((job) => job.dataset),
  );
  const settings = names(jobs, "settings").map((path) =>
    column(
      path,
      path,
      "settings",
      jobs.map((job) => job.settings[path]),
    ),
  );
  const tags = names(jobs, "tags").map((name) =>
    column(
      `tag.${name}`,
      `tag ${name}`,
      "settings",
      jobs.map((job) => job.tags[name]),
    ),
  );
  return [
    ...facts,
    ...results.sort((a, b) => tells(a) - tells(b)),
    ...best,
    ...[dataset, ...settings].sort((a, b) => matters(a) - matters(b)),
    ...tags,
  ];
}

/**
 * Return the places of the best value; none if no direction is better or all are equal.
 * @param {CompareColumn} column
 */
export function bestOf({ values, sense }) {
  const numbers = values.filter((value) => typeof value === "number");
  if (!sense || new Set(numbers).size < 2) return [];
  const best = sense === "max" ? Math.max(...numbers) : Math.min(...numbers);
  return values.flatMap((value, place) => (value === best ? [place] : []));
}

/**
 * Return the places of the jobs sorted by a column; jobs without a value come last.
 * @param {CompareColumn} column
 * @param {boolean} descending
 */
export function orderBy({ values }, descending) {
  /** @type {(a: unknown, b: unknown) => number} */
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : words(a).localeCompare(words(b)));
  return values
    .map((_, place) => place)
    .sort((a, b) => {
      const [one, other] = [values[a], values[b]];
      if (!there(one) || !there(other)) return Number(there(other)) - Number(there(one));
      return (descending ? -1 : 1) * compare(one, other);
    });
}

/** Up to this many different numbers each get a tick. */
const FEW = 6;
/** Smallest distance of two ticks, as a fraction of the axis. */
const LEAST_APART = 0.07;

/**
 * Return a scale from 0 to 1: numbers by value (or logarithm), words evenly spaced.
 * @param {CompareColumn} column
 * @returns {Scale}
 */
export function scaleOf({ values, numeric, text }, { log = false, pad = 0 } = {}) {
  const present = values.filter(there);
  return numeric ? numberScale(/** @type {number[]} */ (present), text, log, pad) : wordScale(present);
}

/**
 * @param {unknown[]} present
 * @returns {Scale}
 */
function wordScale(present) {
  const kinds = [...new Set(present.map(words))].sort();
  /** @param {number} place */
  const middle = (place) => (place + 0.5) / kinds.length;
  return {
    at: (value) => (there(value) ? middle(kinds.indexOf(words(value))) : null),
    ticks: kinds.map((label, place) => ({ at: middle(place), label })),
    log: false,
  };
}

/**
 * @param {number[]} present
 * @param {(value: number) => string} text
 * @param {boolean} log
 * @param {number} pad Room before the lowest and behind the highest, as a share of the distance between them.
 * @returns {Scale}
 */
function numberScale(present, text, log, pad) {
  const isLog = log && present.every((value) => value > 0);
  /** @param {number} value */
  const from = (value) => (isLog ? Math.log10(value) : value);
  const ends = [Math.min(...present), Math.max(...present)];
  const room = pad * (from(ends[1]) - from(ends[0]));
  const [low, high] = [from(ends[0]) - room, from(ends[1]) + room];
  /** @param {number} value */
  const at = (value) => (high > low ? (from(value) - low) / (high - low) : 0.5);
  const marks = marksOf(present, ends, isLog);
  return {
    at: (value) => (typeof value === "number" ? at(value) : null),
    ticks: apart(marks.map((value) => ({ at: at(value), label: text(value) }))),
    log: isLog,
  };
}

/**
 * @param {number[]} present
 * @param {number[]} ends
 * @param {boolean} isLog
 */
function marksOf(present, ends, isLog) {
  const kinds = [...new Set(present)].sort((a, b) => a - b);
  if (kinds.length <= FEW) return kinds;
  return isLog ? powers(ends) : round(ends);
}

/**
 * Return the ticks whose labels do not overlap; the outer two are kept.
 * @param {TickMark[]} ticks
 */
function apart(ticks) {
  if (ticks.length < 2) return ticks;
  const last = ticks[ticks.length - 1];
  const kept = [ticks[0]];
  for (const tick of ticks.slice(1, -1)) {
    if (tick.at - kept[kept.length - 1].at >= LEAST_APART && last.at - tick.at >= LEAST_APART) kept.push(tick);
  }
  return [...kept, last];
}

/**
 * Return about five round numbers within the range.
 * @param {number[]} ends
 */
function round([low, high]) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5].find((one) => one * power >= rough) ?? 10);
  const found = [];
  for (let count = Math.ceil(low / step - 1e-9); count * step <= high + step * 1e-9; count += 1)
    found.push(Number((count * step).toPrecision(12)));
  return found;
}

/**
 * Return 1, 2 and 5 of each power of ten within the range, or its ends if those are too few.
 * @param {number[]} ends
 */
function powers([low, high]) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
    for (const one of [1, 2, 5]) found.push(Number((one * 10 ** power).toPrecision(6)));
  const inside = found.filter((value) => value >= low && value <= high);
  const few = inside.length > 8 ? inside.filter((value) => /^1/.test(value.toExponential())) : inside;
  return few.length > 1 ? few : [low, high];
}

/**
 * Return whether the values span more than a power of ten, as learning rates do.
 * @param {CompareColumn} column
 */
export const isWide = ({ values, numeric }) => {
  const present = values.filter((value) => typeof value === "number");
  return numeric && present.length > 1 && Math.min(...present) > 0 && Math.max(...present) / Math.min(...present) >= 20;
};
