// Columns of the jobs table: fields of every job, and any result, setting or tag.

import { h } from "./dom.js";
import { kindLabel } from "./facts.js";
import { better, figureName, isOfSteps, measure, metricName } from "./figures.js";
import { duration, number, seconds } from "./format.js";
import { progressBar, sparkline, stateBadge } from "./parts.js";
import { ago, url } from "./site.js";

export const DEFAULT = ["state", "name", "model", "dataset", "progress", "curve", "device", "age", "who"];
// The column that cannot be removed.
const ALWAYS = "name";

/** @param {JobRow} job */
const kind = (job) => kindLabel(job.kind);
/** @param {JobRow} job */
const failure = (job) =>
  job.error && job.state === "failed"
    ? h("span", { class: "ns-sub ns-why", title: job.error.message }, job.error.type.replaceAll("_", " "))
    : null;
/** @param {JobRow} job */
const took = (job) => duration(seconds(job.started_at ?? "", job.finished_at || new Date().toISOString()));

/** @param {JobRow} job */
function nameCell(job) {
  return [
    h(
      "a",
      { class: "ns-name", href: url(`/jobs/${job.id}`), "data-key": job.id },
      job.name || `${kind(job)} ${job.dataset || ""}`,
    ),
    h(
      "span",
      { class: "ns-sub" },
      h("code", {}, job.id.slice(0, 8)),
      ` · ${kind(job)}`,
      job.attempt > 1 ? ` · attempt ${job.attempt}` : null,
    ),
  ];
}

/** @param {JobRow} job */
function curveCell(job) {
  if (!job.spark && !job.headline) return h("span", { class: "ns-muted" }, "–");
  const value = job.headline && [
    measure(job.headline.name, job.headline.value),
    h("span", { class: "ns-sub" }, figureName(job.headline.name)),
  ];
  return h(
    "div",
    { class: "ns-metric" },
    job.spark ? sparkline(job.spark.points, { label: job.spark.name }) : null,
    h("div", {}, value),
  );
}

/** @param {JobRow} job */
function ageCell(job) {
  const begun = job.finished_at
    ? `took ${took(job)}`
    : job.state === "running"
      ? `running ${took(job)}`
      : `started ${ago(job.started_at)}`;
  const what = job.started_at ? begun : "submitted";
  return [ago(job.created_at), h("span", { class: "ns-sub" }, what)];
}

// In the order of the menu.
/** @type {Record<string, Column<JobRow>>} */
export const FIELDS = {
  state: { label: "State", sort: "state", cell: (job) => [stateBadge(job.state, job.stop_requested), failure(job)] },
  name: { label: "Job", sort: "name", class: "ns-wide", cell: nameCell },
  model: {
    label: "Model",
    sort: "model",
    cell: (job) => [
      job.model || job.family || "–",
      h("span", { class: "ns-sub" }, [job.family, job.framework].filter(Boolean).join(" · ")),
    ],
  },
  dataset: { label: "Data set", sort: "dataset", cell: (job) => job.dataset || "–" },
  progress: { label: "Progress", sort: "progress", first: "-progress", class: "ns-progress-column", cell: progressBar },
  curve: { label: "Metric", class: "ns-metric-column", cell: curveCell },
  device: {
    label: "Device",
    sort: "device",
    cell: (job) => [job.device || "–", job.worker ? h("span", { class: "ns-sub" }, job.worker) : null],
  },
  age: { label: "Age", sort: "created", first: "-created", class: "ns-nowrap", cell: ageCell },
  who: { label: "Owner", cell: (job) => job.who },
  id: { label: "Id", sort: "id", cell: (job) => h("code", {}, job.id) },
  kind: { label: "Kind", sort: "kind", cell: kind },
  priority: {
    label: "Priority",
    sort: "priority",
    first: "-priority",
    class: "ns-number",
    cell: (job) => number(job.priority),
  },
  attempt: {
    label: "Attempts",
    sort: "attempt",
    first: "-attempt",
    class: "ns-number",
    cell: (job) => number(job.attempt),
  },
  duration: {
    label: "Duration",
    sort: "duration",
    first: "-duration",
    class: "ns-number",
    cell: (job) => (job.started_at ? took(job) : "–"),
  },
  started: {
    label: "Started",
    sort: "started",
    first: "-started",
    class: "ns-nowrap",
    cell: (job) => ago(job.started_at),
  },
  finished: {
    label: "Finished",
    sort: "finished",
    first: "-finished",
    class: "ns-nowrap",
    cell: (job) => ago(job.finished_at),
  },
  tags: {
    label: "Tags",
    cell: (job) =>
      Object.entries(job.tags || {}).map(([name, value]) =>
        h("span", { class: "ns-tag" }, value ? `${name}=${value}` : name),
      ),
  },
};

/** @type {Record<string, string>} */
const BEST = { best: "best", min: "lowest", max: "highest" };

/**
 * Return the label of a column key.
 * @param {string} key
 */
export function label(key) {
  if (FIELDS[key]) return FIELDS[key].label;
  const [group, ...rest] = key.split(".");
  const name = rest.join(".");
  if (BEST[group] && name) return `${BEST[group]} ${metricName(name)}${isOfSteps(name) ? " (few batches)" : ""}`;
  if (group === "metric" && name) return figureName(name);
  return name ? metricName(name) : figureName(group);
}

/** @param {string} key */
const isMetric = (key) =>
  !FIELDS[key] && !key.startsWith("tag.") && (!key.includes(".") || /^(metric|best|min|max)\./.test(key));

/**
 * @param {string} key
 * @param {unknown} value
 */
export function valueText(key, value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return isMetric(key) ? measure(key, value) : number(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/**
 * @param {string} key
 * @returns {Column<JobRow>}
 */
function valueColumn(key) {
  /** @param {JobRow} job */
  const cell = (job) => valueText(key, job.values?.[key]);
  return {
    key,
    label: label(key),
    title: key,
    sort: key,
    first: isMetric(key) && better(key) !== "min" ? `-${key}` : key,
    class: "ns-value",
    cell,
  };
}

/**
 * Return the columns for `drawTable`, in the given order.
 * @param {string[]} keys
 */
export const columnsOf = (keys) =>
  keys.map((key) => {
    const column = FIELDS[key] ? { key, ...FIELDS[key] } : valueColumn(key);
    return { ...column, class: `${column.class || ""} ns-col-${FIELDS[key] ? key : "value"}`.trim() };
  });

/**
 * Return the column keys from the address, else from local storage, else the default ones.
 * @param {URLSearchParams} query
 */
export function chosenColumns(query) {
  const text = query.get("columns") ?? stored();
  const keys = [...new Set((text || "").split(",").filter(Boolean))];
  if (!keys.length) return DEFAULT;
  return keys.includes(ALWAYS) ? keys : [ALWAYS, ...keys];
}

/** @param {string[]} keys */
export const isDefault = (keys) => keys.join() === DEFAULT.join();

export function stored() {
  try {
    return localStorage.getItem("nightshift-columns") || "";
  } catch {
    return "";
  }
}

/** @param {string[]} keys */
export function store(keys) {
  try {
    isDefault(keys)
      ? localStorage.removeItem("nightshift-columns")
      : localStorage.setItem("nightshift-columns", keys.join());
  } catch {
    /* private mode: not kept */
  }
}

/** @param {string} key */
export const isRemovable = (key) => key !== ALWAYS;
