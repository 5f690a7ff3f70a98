// Each device of the fleet: what runs there, how busy it is, whether its worker is heard of.

import { byId, fill, h, pageData, patch } from "./dom.js";
import { KIND, bytes, duration, metricName, number } from "./format.js";
import { WINDOWS, drawLanes } from "./lanes.js";
import { empty, progressBar, sparkline, stateBadge } from "./parts.js";
import { drawQueue } from "./queue.js";
import { ago, getJson, live, url } from "./site.js";

/** How many readings of a device are kept for its curve: at two seconds each, ten minutes. */
const KEPT = 300;
const readings = new Map();
/** The hosts and devices there are cards for: those stay, and only what they say changes. */
let drawn = null;
/** The past and the queue change slowly and cost more: asked for so often (milliseconds). */
const PAST_EVERY = { hour: 8000, day: 20000, week: 60000 };
let [window_, pastAt] = ["hour", 0];

/** How busy its runners are, in per cent of the host, or the GPU. Without that, the host. */
function busyPercent({ device, usage }) {
  if (!usage) return null;
  return device === "gpu" || typeof usage.runner?.cpu_percent !== "number" || !usage.host.cores ? usage.busy_percent : usage.runner.cpu_percent / usage.host.cores;
}

function remember(device) {
  const points = readings.get(device.name) || [];
  const busy = busyPercent(device);
  const last = points[points.length - 1];
  if (typeof busy === "number" && last?.at !== device.heartbeat_at) points.push({ at: device.heartbeat_at, busy });
  readings.set(device.name, points.slice(-KEPT));
}

const title = (job) => job.name || [KIND[job.kind] || job.kind, job.dataset].filter(Boolean).join(" ");
const link = (job) => (job.id ? h("a", { class: "ns-name", href: url(`/jobs/${job.id}`), "data-key": `job-${job.id}` }, title(job)) : h("span", {}, "somebody else's job"));
const about = (job) => [job.id && h("code", {}, job.id.slice(0, 8)), [job.family, job.framework].filter(Boolean).join(" "), job.attempt > 1 && `attempt ${job.attempt}`].filter(Boolean).flatMap((part, index) => (index ? [" · ", part] : [part]));

function work(device) {
  const { job, last } = device;
  if (job) {
    return [
      h("div", { class: "ns-device-job" }, link(job), stateBadge(job.state, job.stop_requested)),
      h("span", { class: "ns-sub" }, about(job), ` · for ${duration((Date.now() - Date.parse(job.started_at)) / 1000)}`),
      progressBar(job),
    ];
  }
  if (!last) return h("p", { class: "ns-muted ns-idle" }, device.state === "offline" ? "Nothing runs here." : "Idle: it waits for a job.");
  return [
    h("div", { class: "ns-device-job" }, h("span", { class: "ns-muted" }, device.state === "offline" ? "Was here last:" : "Idle. Last:"), link(last), stateBadge(last.outcome)),
    h("span", { class: "ns-sub" }, about(last), last.id ? " · " : null, "ended ", ago(last.ended_at)),
  ];
}

/** A bar with what it means beside it; without a figure it says so. */
function meter(label, percent, text, high = Infinity) {
  const known = typeof percent === "number";
  return h("div", { class: "ns-meter" },
    h("span", { class: "ns-meter-label" }, label),
    h("div", { class: `ns-meter-bar${known && percent >= high ? " ns-meter-high" : ""}`, role: "meter", "aria-label": label, "aria-valuenow": known ? Math.round(percent) : null, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuetext": text },
      h("div", { style: { width: `${known ? Math.min(100, percent) : 0}%` } })),
    h("span", { class: "ns-meter-text" }, text));
}

const share = (used, all) => (typeof used === "number" && all ? (100 * used) / all : null);
const amount = (used, all) => (typeof used === "number" ? `${bytes(used)} of ${bytes(all)}` : all ? `${bytes(all)}, use unknown` : "unknown");
const percent = (value) => (typeof value === "number" ? `${Math.round(value)} %` : "unknown");

/** A GPU's own figures; of a CPU, which its workers share, what this worker's runner uses. The host's are told once, above. */
function meters(device) {
  const { usage } = device;
  if (!usage) return null;
  const points = readings.get(device.name) || [];
  return h("div", { class: "ns-meters" },
    device.device === "gpu" ? gpuMeters(device) : runnerMeters(device),
    points.length > 2 ? h("div", { class: "ns-device-curve" }, sparkline(points.map(({ busy }, index) => [index, busy]), { width: 220, height: 34, label: "busy, per cent, since this page was opened:" })) : null);
}

function gpuMeters({ usage, memory_bytes: all }) {
  const heat = typeof usage.temperature_celsius === "number" ? ` · ${Math.round(usage.temperature_celsius)} °C` : "";
  return [
    meter("GPU", usage.busy_percent, percent(usage.busy_percent) + heat),
    meter("Memory", share(usage.memory_used_bytes, usage.memory_bytes), amount(usage.memory_used_bytes, usage.memory_bytes ?? all), 90),
    usage.runner ? h("span", { class: "ns-sub" }, `On the host: ${runnerCores(usage.runner) || "– cores"}, ${bytes(usage.runner.memory_bytes)}`) : null,
  ];
}

const runnerCores = ({ cpu_percent: used }) => (typeof used === "number" ? `${number(used / 100, 2)} cores` : null);

function runnerMeters(device) {
  const { runner, host } = device.usage;
  if (!runner) return meter("Cores", device.usage.busy_percent, percent(device.usage.busy_percent));
  return [
    meter("Cores", busyPercent(device), runnerCores(runner) ? `${runnerCores(runner)}${host.cores ? ` of ${host.cores}` : ""}` : "unknown"),
    meter("Memory", share(runner.memory_bytes, host.memory_bytes), bytes(runner.memory_bytes), 90),
  ];
}

const versions = (device) => Object.entries(device.versions || {}).map(([name, version]) => `${metricName(name)} ${version}`).join(" · ");

const emptyCard = ({ name }) => h("article", { "data-device": name, "aria-label": name }, h("div", { class: "ns-card-head" }), h("div", { class: "ns-card-body" }));

function drawCard(device) {
  const card = document.querySelector(`[data-device="${CSS.escape(device.name)}"]`);
  card.className = `ns-card ns-device ns-device-${device.state}`;
  patch(card.firstChild,
    h("div", {}, h("h2", {}, device.name), h("span", { class: "ns-sub" }, device.device_name)),
    h("span", { class: `ns-badge ns-${device.state}` }, device.state.replace("_", " ")));
  patch(card.lastChild, work(device), meters(device),
    h("p", { class: "ns-sub ns-device-foot" }, "Heartbeat ", ago(device.heartbeat_at), " · since ", ago(device.started_at),
      h("span", { class: "ns-versions" }, versions(device) || device.frameworks.join(" · "))));
}

const emptyHost = (name, devices) => h("section", { class: "ns-host", "data-host": name, "aria-label": `Host ${name}` }, h("div", { class: "ns-host-head" }), h("div", { class: "ns-devices" }, devices.map(emptyCard)));

function drawHost(name, devices) {
  const usage = devices.find((device) => device.usage)?.usage.host;
  const said = usage ? `processor ${percent(usage.cpu_percent)}${usage.cores ? ` of ${usage.cores} cores` : ""} · memory ${amount(usage.memory_used_bytes, usage.memory_bytes)}` : "not heard of";
  patch(document.querySelector(`[data-host="${CSS.escape(name)}"]`).firstChild, h("h2", {}, name), h("span", { class: "ns-muted" }, said));
  devices.forEach(drawCard);
}

function summary(devices) {
  const count = (state) => devices.filter((device) => device.state === state).length;
  const busy = devices.filter((device) => device.job && device.state !== "offline").length;
  const parts = [`${count("online")} online`, count("not_listening") && `${count("not_listening")} not listening`, count("draining") && `${count("draining")} draining`, count("offline") && `${count("offline")} offline`, `${busy} at work`];
  return parts.filter(Boolean).join(" · ");
}

function draw({ devices }) {
  devices.forEach(remember);
  byId("devices-summary").textContent = devices.length ? summary(devices) : "";
  const hosts = [...new Set(devices.map((device) => device.host))];
  const here = (name) => devices.filter((device) => device.host === name);
  // Hosts that are there come first; each keeps its devices together.
  const order = hosts.sort((a, b) => here(b).some((d) => d.state !== "offline") - here(a).some((d) => d.state !== "offline") || a.localeCompare(b));
  const layout = JSON.stringify(order.map((name) => [name, here(name).map((device) => device.name)]));
  if (layout !== drawn) fill(byId("devices"), devices.length ? order.map((name) => emptyHost(name, here(name))) : empty("No worker has come yet", "Start one on any host that reaches Redis and the database:", h("code", {}, "nightshift worker")));
  drawn = layout;
  order.forEach((name) => drawHost(name, here(name)));
}

function drawPast({ history, queue }) {
  pastAt = Date.now();
  const { jobs, mean_seconds: mean, longest_seconds: longest } = history.wait;
  drawQueue({ said: byId("queue-said"), tools: byId("queue-tools"), table: byId("queue-table"), more: byId("queue-more") }, queue);
  drawLanes(byId("history-lanes"), byId("history-told"), history);
  byId("history-said").textContent = jobs ? `${number(jobs)} ${jobs === 1 ? "job" : "jobs"} began, after ${duration(Math.max(0, mean))} on average and ${duration(Math.max(0, longest))} at most` : "No job began in this time.";
  fill(byId("history-tools"), Object.entries(WINDOWS).map(([name, label]) => h("button", { type: "button", class: "ns-chip", "aria-pressed": String(name === window_), "data-key": `window-${name}`, onclick: () => { window_ = name; pastAt = 0; updates.now(); } }, label)));
}

const first = pageData();
draw(first);
drawPast(first);
const updates = live(async (signal) => {
  draw(await getJson("/devices/data", signal));
  if (Date.now() - pastAt > PAST_EVERY[window_]) drawPast(await getJson(`/devices/history?window=${window_}`, signal));
});
