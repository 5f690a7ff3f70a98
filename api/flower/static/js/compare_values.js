// What jobs that are compared came to and were given, as columns of values. Nothing here draws.

import { figureName } from "./figures.js";
import { KIND, duration, measure, metricName, number, seconds } from "./format.js";

export const title = (job) => job.name || `${KIND[job.kind] || job.kind} ${job.dataset || ""}`.trim();
export const short = (job) => `${title(job)} · ${job.id.slice(0, 4)}`;
export const isFinal = (job) => ["succeeded", "failed", "cancelled"].includes(job.state);

const took = (job) => (job.started_at ? seconds(job.started_at, job.finished_at || new Date().toISOString()) : null);
const names = (jobs, part) => [...new Set(jobs.flatMap((job) => Object.keys(job[part] || {})))].sort();
const there = (value) => value !== null && value !== undefined;
const words = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function column(key, label, group, values, { sense = null, text = null } = {}) {
  const present = values.filter(there);
  return {
    key, label, group, values, sense,
    text: text || ((value) => (!there(value) ? "–" : typeof value === "number" ? number(value) : words(value))),
    numeric: present.length > 0 && present.every((value) => typeof value === "number"),
    differs: new Set(values.map((value) => (there(value) ? words(value) : ""))).size > 1,
  };
}

/** What tells most comes first: figures of the test part, then what else has a better side, of the training last. */
const tells = ({ key, sense }) => (sense ? (key.startsWith("test_accuracy") ? 0 : key.startsWith("test_") ? 1 : key.startsWith("train_") ? 3 : 2) : 4);
/** Settings of the training, then those that most jobs have. */
const matters = ({ key, values }) => (values.filter(there).length * 2 < values.length ? 4 : 0) + (key.startsWith("training.") || key === "dataset" ? 0 : key.startsWith("model.") ? 1 : 2);

/** Every value of the jobs: [{key, label, group, values, text(value), sense, numeric, differs}]. */
export function columnsOf(jobs, senses) {
  const metric = (name) => ({ sense: senses[name] || null, text: (value) => (typeof value === "number" ? measure(name, value) : "–") });
  const results = names(jobs, "results").map((name) => column(name, figureName(name), "results", jobs.map((job) => job.results[name]), metric(name)));
  const best = names(jobs, "best").map((name) => column(`best.${name}`, `best ${metricName(name)}`, "best", jobs.map((job) => job.best[name]), metric(name)));
  const facts = [
    column("name", "name", "job", jobs.map((job) => job.name)),
    column("state", "state", "job", jobs.map((job) => job.state)),
    column("duration", "took", "job", jobs.map(took), { text: duration }),
  ];
  const dataset = column("dataset", "data set", "settings", jobs.map((job) => job.dataset));
  const settings = names(jobs, "settings").map((path) => column(path, path, "settings", jobs.map((job) => job.settings[path])));
  const tags = names(jobs, "tags").map((name) => column(`tag.${name}`, `tag ${name}`, "settings", jobs.map((job) => job.tags[name])));
  return [...facts, ...results.sort((a, b) => tells(a) - tells(b)), ...best, ...[dataset, ...settings].sort((a, b) => matters(a) - matters(b)), ...tags];
}

/** Places of the best value of a column; none where neither side is better, or all are equal. */
export function bestOf({ values, sense }) {
  const numbers = values.filter((value) => typeof value === "number");
  if (!sense || new Set(numbers).size < 2) return [];
  const best = sense === "max" ? Math.max(...numbers) : Math.min(...numbers);
  return values.flatMap((value, place) => (value === best ? [place] : []));
}

/** Places of the jobs in the order of a column, those that have no value last; `descending` turns the rest around. */
export function orderBy({ values }, descending) {
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : words(a).localeCompare(words(b)));
  return values.map((_, place) => place).sort((a, b) => {
    const [one, other] = [values[a], values[b]];
    if (!there(one) || !there(other)) return there(other) - there(one);
    return (descending ? -1 : 1) * compare(one, other);
  });
}

/** So few different numbers are marked one by one. */
const FEW = 6;
/** Share of an axis that a label needs. */
const LEAST_APART = 0.07;

/** Where a value lies between 0 and 1 of an axis: numbers by size (or logarithm), words side by side. */
export function scaleOf({ values, numeric, text }, { log = false, pad = 0 } = {}) {
  const present = values.filter(there);
  if (!numeric) {
    const kinds = [...new Set(present.map(words))].sort();
    const at = (value) => (there(value) ? (kinds.indexOf(words(value)) + 0.5) / kinds.length : null);
    return { at, ticks: kinds.map((kind, place) => ({ at: (place + 0.5) / kinds.length, label: kind })), log: false };
  }
  const isLog = log && present.every((value) => value > 0);
  const from = (value) => (isLog ? Math.log10(value) : value);
  const ends = [Math.min(...present), Math.max(...present)];
  const room = pad * (from(ends[1]) - from(ends[0]));
  const [low, high] = [from(ends[0]) - room, from(ends[1]) + room];
  const at = (value) => (there(value) ? (high > low ? (from(value) - low) / (high - low) : 0.5) : null);
  const kinds = [...new Set(present)].sort((a, b) => a - b);
  const marks = kinds.length <= FEW ? kinds : high > low ? (isLog ? powers(ends) : round(ends)) : kinds;
  return { at, ticks: apart(marks.map((value) => ({ at: at(value), label: text(value) }))), log: isLog };
}

/** Marks whose labels do not lie on each other: the outer two, and between them those with room on both sides. */
function apart(ticks) {
  const last = ticks.at(-1);
  const kept = ticks.slice(0, 1);
  for (const tick of ticks.slice(1, -1)) {
    if (tick.at - kept.at(-1).at >= LEAST_APART && last.at - tick.at >= LEAST_APART) kept.push(tick);
  }
  return ticks.length > 1 ? [...kept, last] : kept;
}

/** Some five round numbers between two. */
function round([low, high]) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let number_ = Math.ceil(low / step - 1e-9); number_ * step <= high + step * 1e-9; number_ += 1) found.push(Number((number_ * step).toPrecision(12)));
  return found;
}

/** 1, 2 and 5 of every power of ten between two; the two themselves where that is too few. */
function powers([low, high]) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) for (const one of [1, 2, 5]) found.push(Number((one * 10 ** power).toPrecision(6)));
  const inside = found.filter((value) => value >= low && value <= high);
  const few = inside.length > 8 ? inside.filter((value) => /^1/.test(value.toExponential())) : inside;
  return few.length > 1 ? few : [low, high];
}

/** Spread over several powers of ten, as learning rates are. */
export const isWide = ({ values, numeric }) => {
  const present = values.filter((value) => typeof value === "number");
  return numeric && present.length > 1 && Math.min(...present) > 0 && Math.max(...present) / Math.min(...present) >= 20;
};
