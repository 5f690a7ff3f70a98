// The table of jobs: what is shown is in the address, so it can be sent to somebody and survives Back.

import { byId, fill, h, pageData, patch } from "./dom.js";
import { KIND, duration, measure, metricName, seconds } from "./format.js";
import { empty, progressBar, sparkline, stateBadge } from "./parts.js";
import { ago, getJson, live, url } from "./site.js";
import { drawPages, drawTable } from "./table.js";

const form = byId("jobs-filters");
const table = byId("jobs-table");
const chosen = new Set();
let shown = pageData();
let drawn = "";

const query = () => new URLSearchParams(location.search);

/** Change the address and ask again. Everything but a change of page starts at the first page. */
function change(changes, { push = true } = {}) {
  const next = query();
  if (!("page" in changes)) next.delete("page");
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
  const address = `${location.pathname}${next.size ? `?${next}` : ""}`;
  push ? history.pushState(null, "", address) : history.replaceState(null, "", address);
  updates.now();
}

const target = (job) => url(`/jobs/${job.id}`);

function nameCell(job) {
  return [
    h("a", { class: "ns-name", href: target(job), "data-key": job.id }, job.name || `${KIND[job.kind] || job.kind} ${job.dataset || ""}`),
    h("span", { class: "ns-sub" }, h("code", {}, job.id.slice(0, 8)), ` · ${KIND[job.kind] || job.kind}`, job.attempt > 1 ? ` · attempt ${job.attempt}` : null),
  ];
}

const modelCell = (job) => [job.model || job.family || "–", h("span", { class: "ns-sub" }, [job.family, job.framework].filter(Boolean).join(" · "))];

function metricCell(job) {
  if (!job.spark && !job.headline) return h("span", { class: "ns-muted" }, "–");
  const value = job.headline && [measure(job.headline.name, job.headline.value), h("span", { class: "ns-sub" }, metricName(job.headline.name))];
  return h("div", { class: "ns-metric" }, job.spark ? sparkline(job.spark.points, { label: job.spark.name }) : null, h("div", {}, value));
}

function timeCell(job) {
  if (!job.started_at) return [ago(job.created_at), h("span", { class: "ns-sub" }, "submitted")];
  const end = job.finished_at || new Date().toISOString();
  return [ago(job.created_at), h("span", { class: "ns-sub" }, job.state === "running" ? `running ${duration(seconds(job.started_at, end))}` : `took ${duration(seconds(job.started_at, end))}`)];
}

const failure = (job) => (job.error && job.state === "failed" ? h("span", { class: "ns-sub ns-why", title: job.error.message }, job.error.type.replaceAll("_", " ")) : null);

const COLUMNS = [
  { label: "", head: h("span", { class: "visually-hidden" }, "Choose to compare"), class: "ns-check", cell: (job) => checkbox(job) },
  { label: "State", sort: "state", cell: (job) => [stateBadge(job.state, job.stop_requested), failure(job)] },
  { label: "Job", sort: "name", class: "ns-wide", cell: nameCell },
  { label: "Model", sort: "model", cell: modelCell },
  { label: "Data set", sort: "dataset", cell: (job) => job.dataset || "–" },
  { label: "Progress", class: "ns-progress-column", cell: progressBar },
  { label: "Metric", class: "ns-metric-column", cell: metricCell },
  { label: "Device", cell: (job) => [job.device || "–", job.worker ? h("span", { class: "ns-sub" }, job.worker) : null] },
  { label: "Age", sort: "created", first: "-created", class: "ns-nowrap", cell: timeCell },
  { label: "Who", cell: (job) => job.who },
];

function checkbox(job) {
  return h("input", {
    type: "checkbox", class: "form-check-input", "data-key": `choose-${job.id}`, checked: chosen.has(job.id), "aria-label": `Compare ${job.name || job.id}`,
    onchange: (event) => { event.target.checked ? chosen.add(job.id) : chosen.delete(job.id); drawCompare(); },
  });
}

function drawCompare() {
  const button = byId("jobs-compare");
  button.disabled = chosen.size < 2;
  button.textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
  button.title = chosen.size < 2 ? "Tick two or more jobs to overlay their curves" : "";
}

function drawStates(counts) {
  const now = query().get("state") || "";
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const chip = (name, label, count) =>
    h("button", { type: "button", class: "ns-chip", "aria-pressed": now === name, "data-key": `state-${name}`, onclick: () => change({ state: name }) },
      name ? h("span", { class: `ns-dot ns-${name}`, "aria-hidden": "true" }) : null, label, h("span", { class: "ns-count" }, count.toLocaleString("en-US")));
  patch(byId("jobs-states"), chip("", "All", all), Object.entries(counts).map(([state, count]) => chip(state, state, count)));
}

function drawEmpty(total) {
  const box = byId("jobs-empty");
  box.hidden = total > 0;
  table.hidden = total === 0;
  const narrowed = ["q", "state", "kind", "family", "framework", "dataset"].some((name) => query().get(name));
  fill(box, total ? null : narrowed
    ? empty("No job matches", "Change the search or ", h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => form.reset() }, "Clear the filters"))
    : empty("No jobs yet", "Submit the first one:", h("code", {}, "nightshift submit train cnn --dataset digits --epochs 5")));
}

function draw(answer) {
  shown = answer;
  const text = JSON.stringify(answer) + location.search;
  if (text === drawn) return;
  drawn = text;
  drawStates(answer.counts);
  drawTable(table, COLUMNS, answer.items, { key: (job) => job.id, sort: query().get("sort") || "-created", onSort: (sort) => change({ sort }) });
  drawEmpty(answer.total);
  drawPages(byId("jobs-pages"), answer.page, answer.pages, answer.total, "job", (page) => change({ page: page > 1 ? String(page) : null }));
  drawCompare();
}

function fromAddress() {
  for (const field of form.elements) if (field.name) field.value = query().get(field.name) || "";
}

let typing = null;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => { if (event.target.tagName === "SELECT") change({ [event.target.name]: event.target.value }); });
form.elements.q.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ q: form.elements.q.value.trim() }, { push: false }), 250);
});
form.addEventListener("reset", () => setTimeout(() => change({ q: "", kind: "", family: "", framework: "", dataset: "", state: "" })));
byId("jobs-compare").addEventListener("click", () => { location.href = url(`/compare?ids=${[...chosen].join(",")}`); });
table.addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  if (row && !event.target.closest("a, input, button") && !getSelection().toString()) location.href = url(`/jobs/${row.dataset.row}`);
});
window.addEventListener("popstate", () => { fromAddress(); updates.now(); });

fromAddress();
draw(shown);
const updates = live(async (signal) => draw(await getJson(`/jobs/data${location.search}`, signal)));
