// Several jobs over each other: curves by metric, then what differs between them. Which ones is in the address.

import { Charts, colour, drawTools } from "./charts.js";
import { grouped } from "./curves.js";
import { byId, fill, h, pageData } from "./dom.js";
import { KIND, duration, measure, metricName, seconds } from "./format.js";
import { flat, leaf } from "./job_parts.js";
import { empty, stateBadge } from "./parts.js";
import { getJson, live, toast, url } from "./site.js";

let { jobs, most } = pageData();
let onlyDifferent = true;
const charts = new Charts(byId("curves"));
const results = h("ul", { class: "ns-picker-list", hidden: true });
const search = h("input", { type: "search", class: "form-control form-control-sm", placeholder: "Add a job: name or id", "aria-label": "Add a job", autocomplete: "off", oninput: () => find() });
const adder = h("div", { class: "ns-picker" }, search, results);

const title = (job) => job.name || `${KIND[job.kind] || job.kind} ${job.dataset || ""}`.trim();
const short = (job) => `${title(job)} · ${job.id.slice(0, 4)}`;
const isFinal = (job) => ["succeeded", "failed", "cancelled"].includes(job.state);

function choose(ids) {
  history.replaceState(null, "", `${location.pathname}${ids.length ? `?ids=${ids.join(",")}` : ""}`);
  updates.now();
}

let asked = 0;
async function find() {
  const mine = (asked += 1);
  const words = search.value.trim();
  results.hidden = !words;
  if (!words) return;
  try {
    const { items } = await getJson(`/jobs/data?limit=8&q=${encodeURIComponent(words)}`);
    if (mine !== asked) return;
    const there = new Set(jobs.map((job) => job.id));
    const rows = items.filter((job) => !there.has(job.id)).map((job) => h("li", {},
      h("button", { type: "button", onclick: () => { search.value = ""; results.hidden = true; choose([...jobs.map((one) => one.id), job.id].slice(-most)); } },
        stateBadge(job.state), ` ${title(job)} `, h("code", {}, job.id.slice(0, 8)), h("span", { class: "ns-sub" }, [job.model, job.dataset, job.framework].filter(Boolean).join(" · ")))));
    fill(results, rows.length ? rows : h("li", { class: "ns-muted" }, "No other job matches."));
  } catch (error) {
    toast(error.message, "danger");
  }
}

function drawChosen() {
  fill(byId("compared"), jobs.map((job, place) =>
    h("span", { class: "ns-chosen", style: { borderLeftColor: colour(place) } },
      h("a", { href: url(`/jobs/${job.id}`) }, title(job)), h("code", {}, job.id.slice(0, 8)), stateBadge(job.state),
      h("button", { type: "button", class: "btn-close", "aria-label": `Remove ${short(job)}`, onclick: () => choose(jobs.filter((one) => one !== job).map((one) => one.id)) }))));
  if (jobs.length < most) byId("compared").append(adder);
}

function drawCurves() {
  const names = new Set(jobs.flatMap((job) => Object.keys(job.curves)));
  const order = grouped(names).flatMap((group) => group.names);
  charts.draw(order.map((name) => ({
    title: name,
    lines: jobs.flatMap((job, place) => (job.curves[name] ? [{
      label: short(job), name, colour: colour(place), curve: job.curves[name], from: Date.parse(job.started_at || job.created_at) / 1000,
    }] : [])),
  })));
  charts.place(order.map((name) => ({ title: name })));
}

function rows() {
  const end = (job) => job.finished_at || new Date().toISOString();
  const figures = [...new Set(jobs.flatMap((job) => Object.keys(job.result?.metrics || {})))].sort();
  const parameters = jobs.map((job) => new Map(flat(job.spec).map(([path, value]) => [path.join("."), leaf(value)])));
  const keys = [...new Set(parameters.flatMap((found) => [...found.keys()]))];
  return [
    ["state", jobs.map((job) => stateBadge(job.state)), jobs.map((job) => job.state)],
    ["took", jobs.map((job) => (job.started_at ? duration(seconds(job.started_at, end(job))) : "–")), null],
    ...figures.map((name) => { const cells = jobs.map((job) => (typeof job.result?.metrics?.[name] === "number" ? measure(name, job.result.metrics[name]) : "–")); return [metricName(name), cells, null]; }),
    ...keys.map((key) => { const cells = parameters.map((found) => found.get(key) ?? "–"); return [key, cells, cells]; }),
  ];
}

function drawTable() {
  const differs = (values) => !values || new Set(values).size > 1;
  const shown = rows().filter(([, , values]) => !onlyDifferent || jobs.length < 2 || differs(values));
  fill(byId("compare-table"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, ""), jobs.map((job, place) => h("th", { scope: "col" }, h("span", { class: "ns-dot", style: { color: colour(place) } }), ` ${short(job)}`)))),
    h("tbody", {}, shown.map(([name, cells, values]) => h("tr", { class: !onlyDifferent && values && jobs.length > 1 && differs(values) ? "ns-differs" : null }, h("th", { scope: "row" }, name), cells.map((cell) => h("td", {}, cell))))));
  fill(byId("table-tools"), h("label", { class: "ns-tool" }, h("input", { type: "checkbox", class: "form-check-input", checked: onlyDifferent, onchange: (event) => { onlyDifferent = event.target.checked; drawTable(); } }), "Only what differs"));
}

function draw() {
  drawChosen();
  byId("curves-card").hidden = byId("table-card").hidden = !jobs.length;
  fill(byId("compare-empty"), jobs.length ? null : empty("Nothing to compare yet", "Tick jobs in the table of jobs and press Compare, or add them here by name or id."));
  if (!jobs.length) return;
  drawCurves();
  drawTable();
}

drawTools(byId("curves-tools"), drawCurves);
draw();
const updates = live(async (signal) => {
  const before = location.search;
  ({ jobs, most } = await getJson(`/compare/data${before}`, signal));
  draw();
}, jobs.every(isFinal) ? 60 : 3);
