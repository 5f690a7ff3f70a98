// The columns of the table of jobs: those that every row has, and any result, setting or tag.

import { h } from "./dom.js";
import { figureName, isOfSteps } from "./figures.js";
import { KIND, duration, measure, metricName, number, seconds } from "./format.js";
import { progressBar, sparkline, stateBadge } from "./parts.js";
import { ago, url } from "./site.js";

export const DEFAULT = ["state", "name", "model", "dataset", "progress", "curve", "device", "age", "who"];
// Without it nobody knows which row is which.
const ALWAYS = "name";

const kind = (job) => KIND[job.kind] || job.kind;
const failure = (job) => (job.error && job.state === "failed" ? h("span", { class: "ns-sub ns-why", title: job.error.message }, job.error.type.replaceAll("_", " ")) : null);
const took = (job) => duration(seconds(job.started_at, job.finished_at || new Date().toISOString()));

function nameCell(job) {
  return [
    h("a", { class: "ns-name", href: url(`/jobs/${job.id}`), "data-key": job.id }, job.name || `${kind(job)} ${job.dataset || ""}`),
    h("span", { class: "ns-sub" }, h("code", {}, job.id.slice(0, 8)), ` · ${kind(job)}`, job.attempt > 1 ? ` · attempt ${job.attempt}` : null),
  ];
}

function curveCell(job) {
  if (!job.spark && !job.headline) return h("span", { class: "ns-muted" }, "–");
  const value = job.headline && [measure(job.headline.name, job.headline.value), h("span", { class: "ns-sub" }, figureName(job.headline.name))];
  return h("div", { class: "ns-metric" }, job.spark ? sparkline(job.spark.points, { label: job.spark.name }) : null, h("div", {}, value));
}

function ageCell(job) {
  const begun = job.finished_at ? `took ${took(job)}` : job.state === "running" ? `running ${took(job)}` : `begun ${ago(job.started_at)}`;
  const what = job.started_at ? begun : "submitted";
  return [ago(job.created_at), h("span", { class: "ns-sub" }, what)];
}

// key -> {label, sort, first, class, cell}; in the order of the menu.
export const FIELDS = {
  state: { label: "State", sort: "state", cell: (job) => [stateBadge(job.state, job.stop_requested), failure(job)] },
  name: { label: "Job", sort: "name", class: "ns-wide", cell: nameCell },
  model: { label: "Model", sort: "model", cell: (job) => [job.model || job.family || "–", h("span", { class: "ns-sub" }, [job.family, job.framework].filter(Boolean).join(" · "))] },
  dataset: { label: "Data set", sort: "dataset", cell: (job) => job.dataset || "–" },
  progress: { label: "Progress", sort: "progress", first: "-progress", class: "ns-progress-column", cell: progressBar },
  curve: { label: "Metric", class: "ns-metric-column", cell: curveCell },
  device: { label: "Device", sort: "device", cell: (job) => [job.device || "–", job.worker ? h("span", { class: "ns-sub" }, job.worker) : null] },
  age: { label: "Age", sort: "created", first: "-created", class: "ns-nowrap", cell: ageCell },
  who: { label: "Who", cell: (job) => job.who },
  id: { label: "Id", sort: "id", cell: (job) => h("code", {}, job.id) },
  kind: { label: "Kind", sort: "kind", cell: kind },
  priority: { label: "Priority", sort: "priority", first: "-priority", class: "ns-number", cell: (job) => number(job.priority) },
  attempt: { label: "Attempts", sort: "attempt", first: "-attempt", class: "ns-number", cell: (job) => number(job.attempt) },
  duration: { label: "Duration", sort: "duration", first: "-duration", class: "ns-number", cell: (job) => (job.started_at ? took(job) : "–") },
  started: { label: "Started", sort: "started", first: "-started", class: "ns-nowrap", cell: (job) => ago(job.started_at) },
  finished: { label: "Finished", sort: "finished", first: "-finished", class: "ns-nowrap", cell: (job) => ago(job.finished_at) },
  tags: { label: "Tags", cell: (job) => Object.entries(job.tags || {}).map(([name, value]) => h("span", { class: "ns-tag" }, value ? `${name}=${value}` : name)) },
};

/** What a key is called: the words a person would use, with the whole key in its title. */
export function label(key) {
  if (FIELDS[key]) return FIELDS[key].label;
  const [group, ...rest] = key.split(".");
  const name = rest.join(".");
  if (["best", "min", "max"].includes(group) && name) return `${{ best: "best", min: "lowest", max: "highest" }[group]} ${metricName(name)}${isOfSteps(name) ? " of a few batches" : ""}`;
  if (group === "metric" && name) return figureName(name);
  return name ? metricName(name) : figureName(group);
}

export const isMetric = (key) => !FIELDS[key] && !key.startsWith("tag.") && (!key.includes(".") || /^(metric|best|min|max)\./.test(key));

export function valueText(key, value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return isMetric(key) ? measure(key, value) : number(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function valueColumn(key) {
  const cell = (job) => valueText(key, job.values?.[key]);
  return { key, label: label(key), title: key, sort: key, first: isMetric(key) && !/loss|perplexity|distance|error/.test(key) ? `-${key}` : key, class: "ns-value", cell };
}

/** Columns for `drawTable`, in the order chosen. */
export const columnsOf = (keys) => keys.map((key) => {
  const column = FIELDS[key] ? { key, ...FIELDS[key] } : valueColumn(key);
  return { ...column, class: `${column.class || ""} ns-col-${FIELDS[key] ? key : "value"}`.trim() };
});

/** From the address, else what this browser chose last, else those everybody sees first. */
export function chosenColumns(query) {
  const text = query.get("columns") ?? stored();
  const keys = [...new Set((text || "").split(",").filter(Boolean))];
  if (!keys.length) return DEFAULT;
  return keys.includes(ALWAYS) ? keys : [ALWAYS, ...keys];
}

export const isDefault = (keys) => keys.join() === DEFAULT.join();

export function stored() {
  try { return localStorage.getItem("nightshift-columns") || ""; } catch { return ""; }
}

export function store(keys) {
  try {
    isDefault(keys) ? localStorage.removeItem("nightshift-columns") : localStorage.setItem("nightshift-columns", keys.join());
  } catch { /* private mode: not kept */ }
}

export const isRemovable = (key) => key !== ALWAYS;
