// One model: its versions, how they have done, which of them its aliases mean, and who moved those when and why.

import { drawComparison } from "./comparison.js";
import { ask } from "./dialog.js";
import { byId, fill, h, pageData } from "./dom.js";
import { measure, metricName } from "./format.js";
import { ago, config, getJson, live, post, toast, url } from "./site.js";
import { drawTable } from "./table.js";
import { drawCharts, redrawOnChange } from "./version_charts.js";

/** Versions in the table before the rest is asked for, and how many fit side by side. */
const FIRST = 25;
const MOST = 8;
let model = pageData();
let older = [];
let everything = false;
const drawn = {};
const here = (rest) => `/models/${model.name}${rest}`;
const chosen = () => new Set((new URLSearchParams(location.search).get("compare") || "").split(",").filter(Boolean).map(Number));

// -- moving aliases ---------------------------------------------------------------------------------

async function act(path, body) {
  try {
    toast((await post(here(path), { ...body, reason: body.reason || null })).message);
  } catch (error) {
    toast(error.message, "danger");
  }
  updates.now();
}

async function promote(version) {
  const now = model.aliases.find(({ alias }) => alias === "champion")?.version;
  const detail = `Jobs that are told just “${model.name}” use the champion${now ? `, which is version ${now} now` : ""}. What runs already keeps its version.`;
  const values = await ask(`Point an alias at version ${version}?`, detail, [
    { name: "alias", label: "Alias", value: "champion", max: 100, required: true },
    { name: "reason", label: "Why (kept in the history)" },
  ], "Promote");
  if (values) await act("/aliases", { version, ...values });
}

async function rollBack({ alias, version }) {
  const values = await ask(`Roll ${alias} back?`, `It points at version ${version}; it will point at the version before that again.`, [{ name: "reason", label: "Why (kept in the history)" }], "Roll back");
  if (values) await act("/rollback", { alias, ...values });
}

// -- what is shown ----------------------------------------------------------------------------------

/** Draw a part only when what it shows has changed, so that nothing moves under a hand or a reader's eye. */
function part(name, value, draw) {
  const text = JSON.stringify(value);
  if (drawn[name] === text) return;
  drawn[name] = text;
  draw();
}

function drawAliases() {
  const card = (item) => h("div", { class: "ns-alias" },
    h("span", { class: "ns-badge ns-champion" }, item.alias),
    h("span", {}, "version ", h("strong", {}, item.version), h("span", { class: "ns-muted" }, " since ", ago(item.since))),
    config.readOnly ? null : h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", "data-key": `rollback-${item.alias}`, onclick: () => rollBack(item) }, "Roll back"));
  fill(byId("model-aliases"), model.aliases.length ? model.aliases.map(card) : h("p", { class: "ns-muted" }, "No alias points at any version."));
}

/** False: that is one too many. */
function choose(version, on) {
  const now = chosen();
  on ? now.add(version) : now.delete(version);
  if (now.size > MOST) return toast(`At most ${MOST} versions fit side by side.`, "danger"), false;
  const next = new URLSearchParams(location.search);
  now.size ? next.set("compare", [...now].sort((a, b) => a - b).join(",")) : next.delete("compare");
  history.replaceState(null, "", `${location.pathname}${next.size ? `?${next}` : ""}`);
  drawVersions();
  updates.now();
  return true;
}

function verdict({ promotion }) {
  if (!promotion) return h("span", { class: "ns-muted" }, "–");
  return [h("span", { class: `ns-badge ns-${promotion.promoted ? "succeeded" : "cancelled"}` }, promotion.promoted ? "promoted" : "kept back"), h("span", { class: "ns-sub" }, promotion.reason)];
}

const aliasesOf = (version) => model.aliases.filter((item) => item.version === version).map(({ alias }) => h("span", { class: "ns-badge ns-champion" }, alias));

function columns() {
  const judged = Object.keys(model.senses).filter((name) => name === model.metric || name === "test_loss").sort((a) => (a === model.metric ? -1 : 1));
  return [
    { label: "", head: h("span", { class: "visually-hidden" }, "Choose to compare"), class: "ns-check", cell: ({ version }) => h("input", { type: "checkbox", class: "form-check-input", "data-key": `choose-${version}`, checked: chosen().has(version), "aria-label": `Compare version ${version}`, onchange: ({ target }) => { if (!choose(version, target.checked)) target.checked = !target.checked; } }) },
    { label: "Version", class: "ns-nowrap", cell: ({ version }) => [h("strong", {}, version), " ", aliasesOf(version)] },
    ...judged.map((name) => ({ label: metricName(name), class: "ns-number", cell: ({ metrics }) => (typeof metrics[name] === "number" ? measure(name, metrics[name]) : "–") })),
    { label: "Data set", cell: ({ dataset, parent }) => [dataset || "–", parent ? h("span", { class: "ns-sub" }, `from ${parent}`) : null] },
    { label: "Made by", class: "ns-wide", cell: ({ job, who, framework }) => [job ? h("a", { class: "ns-name", href: url(`/jobs/${job.id}`), "data-key": `job-${job.id}` }, job.name || job.id.slice(0, 8)) : h("span", { class: "ns-muted" }, who ? "a job of somebody else" : "a job that is gone"), h("span", { class: "ns-sub" }, [who, framework].filter(Boolean).join(" · "))] },
    { label: "Made", class: "ns-nowrap", cell: ({ created_at }) => ago(created_at) },
    ...(model.versions.some(({ promotion }) => promotion) ? [{ label: "Against the champion", class: "ns-wide", cell: verdict }] : []),
    ...(config.readOnly ? [] : [{ label: "", head: h("span", { class: "visually-hidden" }, "Actions"), class: "ns-number", cell: ({ version }) => h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", "data-key": `promote-${version}`, "aria-label": `Promote version ${version}`, onclick: () => promote(version) }, "Promote") }]),
  ];
}

function drawVersions() {
  const rows = everything ? model.versions : model.versions.slice(0, FIRST);
  drawTable(byId("model-versions"), columns(), rows, { key: ({ version }) => version });
  const rest = model.versions.length - rows.length;
  fill(byId("model-more"), rest > 0 ? h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => { everything = true; drawVersions(); } }, `${rest.toLocaleString("en-US")} older versions`) : null);
}

function sentence({ change, alias, from_version: from, to_version: to }) {
  if (change === "delete") return `version ${from} deleted`;
  if (change === "rollback") return `${alias} rolled back from version ${from} to ${to}`;
  return from === null ? `${alias} set to version ${to}` : `${alias} moved from version ${from} to ${to}`;
}

/** `job:<id>` is a job; anything else is a person or the system. */
const actor = (who) => (who.startsWith("job:") ? h("a", { href: url(`/jobs/${who.slice(4)}`) }, `job ${who.slice(4, 12)}`) : who);

function drawHistory() {
  const items = [...model.history.items, ...older];
  fill(byId("model-history"), items.map((item) => h("li", {}, h("span", { class: "ns-change" }, sentence(item)), item.why ? h("q", {}, item.why) : null, h("span", { class: "ns-sub" }, actor(item.who), " · ", ago(item.at)))));
  const next = older.length ? older.next : model.history.next;
  fill(byId("model-history-more"), next ? h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => showOlder(next) }, "Older changes") : null);
}

async function showOlder(cursor) {
  try {
    const { items, next } = await getJson(here(`/history?cursor=${encodeURIComponent(cursor)}`));
    older = Object.assign([...older, ...items], { next });
    drawHistory();
  } catch (error) {
    toast(error.message, "danger");
  }
}

function draw(answer) {
  model = answer;
  const { aliases, versions, comparison } = model;
  part("aliases", aliases, drawAliases);
  part("versions", [versions, aliases], () => { drawVersions(); drawCharts(byId("model-charts"), model); });
  part("comparison", comparison, () => drawComparison(byId("model-comparison"), comparison, () => [...chosen()].forEach((version) => choose(version, false))));
  part("history", model.history, () => { older = []; drawHistory(); });
}

draw(model);
redrawOnChange(byId("model-charts"), () => model);
const updates = live(async (signal) => draw(await getJson(here(`/data${location.search}`), signal)), 5);
