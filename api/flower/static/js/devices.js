// The page of devices: what runs on each, its load, and its heartbeat.

import { byId, fill, h, pageData, patch } from "./dom.js";
import { kindLabel } from "./facts.js";
import { bytes, duration, number, words } from "./format.js";
import { drawLanes, WINDOWS } from "./lanes.js";
import { empty, progressBar, sparkline, stateBadge } from "./parts.js";
import { drawQueue } from "./queue.js";
import { actionButton, ago, config, getJson, live, url } from "./site.js";

/** Readings kept per device: ten minutes at one every two seconds. */
const KEPT = 300;
/** @type {Map<string, { at: string, busy: number }[]>} */
const readings = new Map();
/**
 * The hosts and devices that have cards now; cards are kept, only their contents change.
 * @type {string | null}
 */
let drawn = null;
/** Milliseconds between requests for history and queue, which change slowly and cost more. */
/** @type {Record<string, number>} */
const PAST_EVERY = { hour: 8000, day: 20000, week: 60000 };
let [window_, pastAt] = ["hour", 0];

/**
 * Return the load of the runner in percent of the host, or of the GPU; else of the host.
 * @param {Device} device
 */
function busyPercent({ device, usage }) {
  if (!usage) return null;
  return device === "gpu" || typeof usage.runner?.cpu_percent !== "number" || !usage.host.cores
    ? usage.busy_percent
    : usage.runner.cpu_percent / usage.host.cores;
}

/** @param {Device} device */
function remember(device) {
  const points = readings.get(device.name) || [];
  const busy = busyPercent(device);
  const last = points[points.length - 1];
  if (typeof busy === "number" && last?.at !== device.heartbeat_at) points.push({ at: device.heartbeat_at, busy });
  readings.set(device.name, points.slice(-KEPT));
}

/** @param {Job} job */
const title = (job) => job.name || [kindLabel(job.kind), job.dataset].filter(Boolean).join(" ");
/** @param {Job} job */
const link = (job) =>
  job.id
    ? h("a", { class: "ns-name", href: url(`/jobs/${job.id}`), "data-key": `job-${job.id}` }, title(job))
    : h("span", {}, "another owner's job");
/** @param {Job & { attempt: number }} job */
const about = (job) =>
  [
    job.id && h("code", {}, job.id.slice(0, 8)),
    [job.family, job.framework].filter(Boolean).join(" "),
    job.attempt > 1 && `attempt ${job.attempt}`,
  ]
    .filter(Boolean)
    .flatMap((part, index) => (index ? [" · ", part] : [part]));

/** @param {Device} device */
function work(device) {
  const { job, last, finishing } = device;
  const ending = finishing.map((one) =>
    h("div", { class: "ns-device-job" }, h("span", { class: "ns-muted" }, "Storing the results of"), link(one)),
  );
  if (job) {
    return [
      ...ending,
      h("div", { class: "ns-device-job" }, link(job), stateBadge(job.state, job.stop_requested)),
      h(
        "span",
        { class: "ns-sub" },
        about(job),
        ` · for ${duration((Date.now() - Date.parse(job.started_at ?? "")) / 1000)}`,
      ),
      progressBar(job),
    ];
  }
  if (ending.length) return ending;
  if (!last) return h("p", { class: "ns-muted ns-idle" }, device.state === "offline" ? "Offline." : "Idle.");
  return [
    h(
      "div",
      { class: "ns-device-job" },
      h("span", { class: "ns-muted" }, device.state === "offline" ? "Last:" : "Idle. Last:"),
      link(last),
      stateBadge(last.outcome),
    ),
    h("span", { class: "ns-sub" }, about(last), last.id ? " · " : null, "ended ", ago(last.ended_at)),
  ];
}

/**
 * Return a bar with a text beside it.
 * @param {string} label
 * @param {number | null | undefined} percent
 * @param {string} text
 * @param {number} high
 */
function meter(label, percent, text, high = Infinity) {
  const known = typeof percent === "number";
  return h(
    "div",
    { class: "ns-meter" },
    h("span", { class: "ns-meter-label" }, label),
    h(
      "div",
      {
        class: `ns-meter-bar${known && percent >= high ? " ns-meter-high" : ""}`,
        role: "meter",
        "aria-label": label,
        "aria-valuenow": known ? Math.round(percent) : null,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-valuetext": text,
      },
      h("div", { style: { width: `${known ? Math.min(100, percent) : 0}%` } }),
    ),
    h("span", { class: "ns-meter-text" }, text),
  );
}

/**
 * @param {number | undefined} used
 * @param {number | undefined} all
 */
const share = (used, all) => (typeof used === "number" && all ? (100 * used) / all : null);
/**
 * @param {number | undefined} used
 * @param {number | undefined} all
 */
const amount = (used, all) =>
  typeof used === "number" ? `${bytes(used)} of ${bytes(all)}` : all ? `${bytes(all)}, use unknown` : "unknown";
/** @param {number | undefined} value */
const percent = (value) => (typeof value === "number" ? `${Math.round(value)}%` : "unknown");

/**
 * Return the meters of a GPU, or of what this worker's runner uses of a CPU.
 * @param {Device} device
 */
function meters(device) {
  const { usage } = device;
  if (!usage) return null;
  const points = readings.get(device.name) || [];
  return h(
    "div",
    { class: "ns-meters" },
    device.device === "gpu" ? gpuMeters(device, usage) : runnerMeters(device, usage),
    points.length > 2
      ? h(
          "div",
          { class: "ns-device-curve" },
          sparkline(
            points.map(({ busy }, index) => [index, busy]),
            { width: 220, height: 34, label: "busy (%) since this page was opened:" },
          ),
        )
      : null,
  );
}

/**
 * @param {Device} device
 * @param {Usage} usage
 */
function gpuMeters({ memory_bytes: all }, usage) {
  const heat = typeof usage.temperature_celsius === "number" ? ` · ${Math.round(usage.temperature_celsius)} °C` : "";
  return [
    meter("GPU", usage.busy_percent, percent(usage.busy_percent) + heat),
    meter(
      "Memory",
      share(usage.memory_used_bytes, usage.memory_bytes),
      amount(usage.memory_used_bytes, usage.memory_bytes ?? all),
      90,
    ),
    usage.runner
      ? h(
          "span",
          { class: "ns-sub" },
          `On the host: ${runnerCores(usage.runner) || "– cores"}, ${bytes(usage.runner.memory_bytes)}`,
        )
      : null,
  ];
}

/** @param {{ cpu_percent?: number }} runner */
const runnerCores = ({ cpu_percent: used }) => (typeof used === "number" ? `${number(used / 100, 2)} cores` : null);

/**
 * @param {Device} device
 * @param {Usage} usage
 */
function runnerMeters(device, usage) {
  const { runner, host } = usage;
  if (!runner) return meter("Cores", usage.busy_percent, percent(usage.busy_percent));
  return [
    meter(
      "Cores",
      busyPercent(device),
      runnerCores(runner) ? `${runnerCores(runner)}${host.cores ? ` of ${host.cores}` : ""}` : "unknown",
    ),
    meter("Memory", share(runner.memory_bytes, host.memory_bytes), bytes(runner.memory_bytes), 90),
  ];
}

/** @param {Device} device */
const versions = (device) =>
  Object.entries(device.versions || {})
    .map(([name, version]) => `${words(name)} ${version}`)
    .join(" · ");

/** @param {Device} device */
const emptyCard = ({ name }) =>
  h(
    "article",
    { "data-device": name, "aria-label": name },
    h("div", { class: "ns-card-head" }),
    h("div", { class: "ns-card-body" }),
  );

/**
 * Return an element with its head and body.
 * @param {string} selector
 */
function halves(selector) {
  const found = document.querySelector(selector);
  if (!found) throw new Error(`nothing is ${selector}`);
  return [found, found.children[0], found.children[1]];
}

/**
 * Why the worker left its device or takes no jobs, or which frameworks do not work on it.
 *
 * @param {Device} device
 */
function problems(device) {
  const texts = device.left_because
    ? [`${device.state === "disk_full" ? "Its disk is full" : "It left its device"}: ${device.left_because}`]
    : Object.entries(device.unusable).map(([name, why]) => `${name} does not work here: ${why}`);
  return texts.map((text) => h("p", { class: "ns-sub ns-problem" }, text));
}

/**
 * Return the buttons that cordon, drain, uncordon and forget a device.
 * @param {Device} device
 */
function controls({ name, ledger, state }) {
  if (config.readOnly) return null;
  const isForgettable = state === "offline" && !ledger?.is_held;
  if (!ledger && !isForgettable) return null;
  const body = { name };
  const done = () => updates.now();
  const buttons = [];
  if (ledger?.cordoned_at) {
    buttons.push(actionButton("Uncordon", "/devices/uncordon", { body, done, title: "Let jobs use it again" }));
  } else if (!isForgettable) {
    buttons.push(actionButton("Cordon", "/devices/cordon", { body, done, title: "Give it to no other job" }));
  }
  if (ledger?.is_held) {
    const ask = {
      question: `Drain ${name}?`,
      detail: "Its job writes a checkpoint and returns to the queue; no other job gets the device.",
    };
    buttons.push(actionButton("Drain", "/devices/drain", { body, done, ask }));
  }
  if (isForgettable) {
    const ask = { question: `Forget ${name}?`, detail: "A worker that starts there again is listed again." };
    buttons.push(actionButton("Forget", "/devices/forget", { body, done, ask }));
  }
  return h("div", { class: "ns-tools" }, buttons);
}

/** @param {Device} device */
function drawCard(device) {
  const [card, head, body] = halves(`[data-device="${CSS.escape(device.name)}"]`);
  card.className = `ns-card ns-device ns-device-${device.state}`;
  patch(
    head,
    h("div", {}, h("h2", {}, device.name), h("span", { class: "ns-sub" }, device.device_name)),
    h(
      "span",
      { class: "ns-device-states" },
      device.ledger?.cordoned_at ? h("span", { class: "ns-badge ns-draining" }, "cordoned") : null,
      h("span", { class: `ns-badge ns-${device.state}` }, device.state.replaceAll("_", " ")),
    ),
  );
  patch(
    body,
    work(device),
    problems(device),
    meters(device),
    controls(device),
    h(
      "p",
      { class: "ns-sub ns-device-foot" },
      "Heartbeat ",
      ago(device.heartbeat_at),
      " · since ",
      ago(device.started_at),
      device.ledger?.labels.length ? ` · ${device.ledger.labels.join(", ")}` : null,
      h("span", { class: "ns-versions" }, versions(device) || device.frameworks.join(" · ")),
    ),
  );
}

/**
 * @param {string} name
 * @param {Device[]} devices
 */
const emptyHost = (name, devices) =>
  h(
    "section",
    { class: "ns-host", "data-host": name, "aria-label": `Host ${name}` },
    h("div", { class: "ns-host-head" }),
    h("div", { class: "ns-devices" }, devices.map(emptyCard)),
  );

/** @param {Usage["host"] | undefined} usage */
function hostUse(usage) {
  if (!usage) return "no data";
  const cores = usage.cores ? ` of ${usage.cores} cores` : "";
  const memory = amount(usage.memory_used_bytes, usage.memory_bytes);
  return `processor ${percent(usage.cpu_percent)}${cores} · memory ${memory}`;
}

/**
 * @param {string} name
 * @param {Device[]} devices
 */
function drawHost(name, devices) {
  const usage = devices.find((device) => device.usage)?.usage?.host;
  patch(
    halves(`[data-host="${CSS.escape(name)}"]`)[1],
    h("h2", {}, name),
    h("span", { class: "ns-muted" }, hostUse(usage)),
  );
  devices.forEach(drawCard);
}

/** @param {Device[]} devices */
function summary(devices) {
  /** @param {Device["state"]} state */
  const count = (state) => devices.filter((device) => device.state === state).length;
  const busy = devices.filter((device) => device.job && device.state !== "offline").length;
  const parts = [
    `${count("online")} online`,
    count("device_failed") && `${count("device_failed")} left their device`,
    count("disk_full") && `${count("disk_full")} without room on their disk`,
    count("not_listening") && `${count("not_listening")} not listening`,
    count("draining") && `${count("draining")} draining`,
    count("offline") && `${count("offline")} offline`,
    `${busy} busy`,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** @param {{ devices: Device[] }} answer */
function draw({ devices }) {
  devices.forEach(remember);
  byId("devices-summary").textContent = devices.length ? summary(devices) : "";
  const hosts = [...new Set(devices.map((device) => device.host))];
  /** @param {string} name */
  const here = (name) => devices.filter((device) => device.host === name);
  /** @param {string} name */
  const online = (name) => Number(here(name).some((device) => device.state !== "offline"));
  // Online hosts come first.
  const order = hosts.sort((a, b) => online(b) - online(a) || a.localeCompare(b));
  const layout = JSON.stringify(order.map((name) => [name, here(name).map((device) => device.name)]));
  if (layout !== drawn)
    fill(
      byId("devices"),
      devices.length
        ? order.map((name) => emptyHost(name, here(name)))
        : empty(
            "No workers yet",
            "Start one on any host that reaches Redis and the database:",
            h("code", {}, "nightshift worker"),
          ),
    );
  drawn = layout;
  for (const name of order) drawHost(name, here(name));
}

/** @param {{ history: Past, queue: Queue }} past */
function drawPast({ history, queue }) {
  pastAt = Date.now();
  const { jobs, mean_seconds: mean, longest_seconds: longest } = history.wait;
  drawQueue(
    { said: byId("queue-said"), tools: byId("queue-tools"), table: byId("queue-table"), more: byId("queue-more") },
    queue,
  );
  drawLanes(byId("history-lanes"), byId("history-told"), history);
  const waits = [mean, longest].map((seconds) => duration(Math.max(0, seconds)));
  byId("history-said").textContent = jobs
    ? `${number(jobs)} ${jobs === 1 ? "job" : "jobs"} started, after ${waits[0]} on average and ${waits[1]} at most`
    : "No job started in this window.";
  fill(
    byId("history-tools"),
    Object.entries(WINDOWS).map(([name, label]) =>
      h(
        "button",
        {
          type: "button",
          class: "ns-chip",
          "aria-pressed": String(name === window_),
          "data-key": `window-${name}`,
          onclick: () => {
            window_ = name;
            pastAt = 0;
            updates.now();
          },
        },
        label,
      ),
    ),
  );
}

/** @type {DevicesPage} */
const first = pageData();
draw(first);
drawPast(first);
const updates = live(async (signal) => {
  draw(await getJson("/devices/data", signal));
  if (Date.now() - pastAt > PAST_EVERY[window_]) drawPast(await getJson(`/devices/history?window=${window_}`, signal));
});
