// Tables and pictures of the job page.

import { h } from "./dom.js";
import { bytes, duration, exact, number, seconds } from "./format.js";
import { progressBar, stateBadge } from "./parts.js";
import { ago, url } from "./site.js";

/** @type {Record<number, string>} */
const SIGNALS = {
  1: "SIGHUP",
  2: "SIGINT",
  4: "SIGILL",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  9: "SIGKILL",
  11: "SIGSEGV",
  15: "SIGTERM",
  24: "SIGXCPU",
};

/** @param {string} text */
const none = (text) => h("p", { class: "ns-muted ns-none" }, text);
/**
 * @param {string[]} heads
 * @param {Child[]} rows
 */
const table = (heads, rows) =>
  h(
    "div",
    { class: "ns-scroll" },
    h(
      "table",
      { class: "ns-table" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head) => h("th", { scope: "col" }, head)),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );

/**
 * Return the job's timeline as a bar: waiting, queued, each attempt, paused.
 * @param {Stretch[]} stretches
 * @param {string} now
 */
export function timelineBar(stretches, now) {
  if (!stretches.length) return null;
  const lengths = stretches.map((stretch) => Math.max(0, seconds(stretch.from, stretch.to || now)));
  const end = stretches[stretches.length - 1].to;
  const total = lengths.reduce((sum, length) => sum + length, 0) || 1;
  const parts = stretches.map((stretch, place) => {
    const tone = stretch.outcome && stretch.outcome !== "succeeded" ? stretch.outcome : stretch.state;
    const what =
      stretch.state === "running"
        ? `Attempt ${stretch.attempt}${stretch.outcome ? `: ${stretch.outcome.replaceAll("_", " ")}` : ""}`
        : stretch.state;
    return { tone, length: lengths[place], text: `${what}, ${duration(lengths[place])}, from ${exact(stretch.from)}` };
  });
  return h(
    "div",
    { class: "ns-timeline" },
    h(
      "div",
      { class: "ns-timeline-bar", role: "img", "aria-label": parts.map((part) => part.text).join("; ") },
      parts.map((part) =>
        h("span", {
          class: `ns-stretch ns-${part.tone}`,
          title: part.text,
          style: { flexGrow: String(Math.max(part.length / total, 0.004)) },
        }),
      ),
    ),
    h(
      "div",
      { class: "ns-timeline-ends" },
      ago(stretches[0].from),
      h("span", {}, duration(total)),
      end ? ago(end) : "now",
    ),
  );
}

/** @param {number | null | undefined} step */
const stepText = (step) => (step === null || step === undefined ? null : `step ${number(step)}`);

/** @param {{ type?: string, message?: string }} error */
const errorLine = ({ type = "error", message }) =>
  h("div", { class: "ns-error" }, h("strong", {}, type.replaceAll("_", " ")), message ? `: ${message}` : null);

/** @param {number} signal */
const signalText = (signal) => `signal ${signal}${SIGNALS[signal] ? ` (${SIGNALS[signal]})` : ""}`;

/**
 * Return the evidence of how an attempt ended, in one line.
 * @param {Attempt} attempt
 * @param {NonNullable<Attempt["evidence"]>} kept
 */
function findings(attempt, kept) {
  const { signal, exit_code: code, peak_memory_bytes: memory, peak_device_memory_bytes: onDevice } = attempt;
  const resumed = stepText(attempt.resumed_step);
  return [
    kept.phase && `last seen: ${[kept.phase, stepText(kept.step)].filter(Boolean).join(", ")}`,
    resumed && `resumed from ${resumed}`,
    signal && signalText(signal),
    code && `exit code ${code}`,
    memory && `peak memory ${bytes(memory)}`,
    onDevice && `on the device ${bytes(onDevice)}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** @param {string[]} lines */
const lastLines = (lines) =>
  h(
    "details",
    { class: "ns-last-lines" },
    h("summary", {}, "Last log lines"),
    h("pre", { class: "ns-json", tabindex: 0 }, lines.join("\n")),
  );

/**
 * Return the error and the evidence of an attempt.
 * @param {Attempt} attempt
 * @returns {Child[]}
 */
function evidence(attempt) {
  const kept = attempt.outcome && attempt.outcome !== "succeeded" ? attempt.evidence || {} : {};
  const found = findings(attempt, kept);
  return [
    attempt.error && errorLine(attempt.error),
    found && h("div", { class: "ns-muted" }, found),
    kept.log_tail?.length ? lastLines(kept.log_tail) : null,
  ];
}

/**
 * @param {Attempt[]} attempts
 * @param {string} now
 */
export function attemptsTable(attempts, now) {
  if (!attempts.length) return none("No attempt yet.");
  return h(
    "ol",
    { class: "ns-attempts" },
    [...attempts]
      .reverse()
      .map((attempt) =>
        h(
          "li",
          {},
          h(
            "div",
            { class: "ns-attempt-head" },
            h("strong", {}, `Attempt ${attempt.attempt}`),
            stateBadge(attempt.outcome || "running"),
            h("span", { class: "ns-muted" }, duration(seconds(attempt.started_at, attempt.ended_at || now))),
          ),
          h(
            "div",
            { class: "ns-muted" },
            ago(attempt.started_at),
            ` on ${attempt.worker}`,
            attempt.device ? ` · ${attempt.device}` : null,
          ),
          otherVersion(attempt),
          evidence(attempt),
        ),
      ),
  );
}

/**
 * Mark an attempt that continued what another version of its package began.
 * @param {Attempt} attempt
 */
function otherVersion({ environment }) {
  if (!environment?.begun_by) return null;
  return h(
    "div",
    {},
    h("span", { class: "ns-badge ns-paused" }, "not exact"),
    ` ${environment.package} continued what ${environment.begun_by} began`,
  );
}

/**
 * Return the shards of a job, each with what it is doing.
 * @param {JobPage["job"][]} shards
 */
export function shardsTable(shards) {
  return table(
    ["Shard", "State", "Progress", "Worker"],
    shards.map((one) =>
      h(
        "tr",
        {},
        h("td", {}, h("a", { href: url(`/jobs/${one.id}`) }, `${one.shard}`)),
        h("td", {}, stateBadge(one.state, one.stop_requested)),
        h("td", {}, progressBar(one)),
        h("td", { class: "ns-nowrap" }, one.worker || "–"),
      ),
    ),
  );
}

/**
 * @param {Checkpoint[]} checkpoints
 * @param {boolean} isFinal
 */
export function checkpointsTable(checkpoints, isFinal) {
  if (!checkpoints.length) return none(isFinal ? "None kept." : "None yet.");
  return table(
    ["Step", "Epoch", "Size", "Written"],
    checkpoints.map((one) =>
      h(
        "tr",
        {},
        h(
          "td",
          {},
          number(one.step),
          one.is_best ? h("span", { class: "ns-badge ns-succeeded ns-beside" }, "best") : null,
          one.state !== "ready" ? [" ", stateBadge(one.state)] : null,
        ),
        h("td", {}, one.epoch ? number(one.epoch) : "–"),
        h("td", { class: "ns-nowrap", title: `SHA-256 ${one.sha256}` }, bytes(one.size_bytes)),
        h("td", { class: "ns-nowrap" }, ago(one.created_at)),
      ),
    ),
  );
}

/**
 * @param {string} id
 * @param {string} path
 */
const fileUrl = (id, path) => url(`/jobs/${id}/files/${path.split("/").map(encodeURIComponent).join("/")}`);

/**
 * @param {Artifact[]} artifacts
 * @param {string} id
 * @param {boolean} isFinal
 */
export function artifactsTable(artifacts, id, isFinal) {
  if (!artifacts.length) return none(isFinal ? "None." : "Listed when the job succeeds.");
  return table(
    ["File", "Size", ""],
    artifacts.map((file) =>
      h(
        "tr",
        {},
        h(
          "td",
          {},
          h("a", { href: fileUrl(id, file.path), target: "_blank", rel: "noopener" }, file.path),
          h("span", { class: "ns-sub", title: `SHA-256 ${file.sha256}` }, file.media_type),
        ),
        h("td", { class: "ns-nowrap" }, bytes(file.size_bytes)),
        h(
          "td",
          { class: "ns-number" },
          h(
            "a",
            {
              class: "btn btn-sm btn-outline-secondary",
              href: `${fileUrl(id, file.path)}?save=1`,
              download: true,
              "aria-label": `Save ${file.path}`,
            },
            "Save",
          ),
        ),
      ),
    ),
  );
}

/**
 * Draw pictures, each only when its content has changed. Names that differ only by a number
 * (`samples/epoch-003.png`) share one figure with a slider, which starts at the newest.
 * @param {HTMLElement} box
 * @param {Artifact[]} artifacts
 * @param {string} id
 */
export function pictures(box, artifacts, id) {
  /** @type {Map<string, Artifact[]>} */
  const groups = new Map();
  for (const file of artifacts.filter(({ media_type: type }) => /^image\/(png|jpeg)$/.test(type))) {
    const place = file.path.replace(/\d+/g, "#");
    groups.set(place, [...(groups.get(place) || []), file]);
  }
  const there = new Map([...box.children].map((child) => [child.getAttribute("data-key"), child]));
  const elements = [...groups].map(([place, files]) => {
    const key = `${place} ${files.map((file) => file.sha256.slice(0, 12)).join(" ")}`;
    return there.get(key) || picture(key, files, id);
  });
  if (elements.some((element, place) => box.children[place] !== element) || box.children.length !== elements.length)
    box.replaceChildren(...elements);
}

/**
 * @param {string} key
 * @param {Artifact[]} files
 * @param {string} id
 */
function picture(key, files, id) {
  const [link, image, caption] = [
    h("a", { target: "_blank", rel: "noopener" }),
    h("img", { loading: "lazy" }),
    h("figcaption", {}),
  ];
  /** @param {Artifact} file */
  const show = (file) => {
    image.alt = caption.textContent = file.path;
    link.href = fileUrl(id, file.path);
    image.src = `${link.href}?v=${file.sha256.slice(0, 12)}`;
  };
  link.append(image);
  show(files[files.length - 1]);
  const slider =
    files.length > 1
      ? h("input", {
          type: "range",
          class: "form-range",
          min: 0,
          max: files.length - 1,
          value: files.length - 1,
          "aria-label": "Select a picture",
          oninput: (event) => show(files[event.target.value]),
        })
      : null;
  return h("figure", { class: "ns-picture", "data-key": key }, link, slider, caption);
}

/**
 * Return a nested value as [path, leaf] pairs, without nulls.
 * @param {unknown} value
 * @param {string[]} path
 * @returns {[string[], unknown][]}
 */
export function flat(value, path = []) {
  if (value === null || value === undefined) return [];
  if (typeof value !== "object" || Array.isArray(value))
    return Array.isArray(value) && !value.length ? [] : [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => flat(inner, [...path, key]));
}

/** @param {unknown} value */
export const leaf = (value) =>
  typeof value === "number" ? number(value, 6) : typeof value === "object" ? JSON.stringify(value) : String(value);

/**
 * Return a spec by section, and as JSON.
 * @param {Spec} spec
 */
export function specList(spec) {
  const sections = new Map();
  for (const [path, value] of flat(spec)) {
    const section = path.length > 1 ? path[0] : "job";
    sections.set(section, [...(sections.get(section) || []), [path.slice(path.length > 1 ? 1 : 0).join("."), value]]);
  }
  /** @param {[string, [string, unknown][]]} section */
  const rows = ([title, entries]) => [
    h("h3", {}, title),
    h(
      "dl",
      { class: "ns-values" },
      entries.map(([name, value]) => [h("dt", {}, name), h("dd", {}, leaf(value))]),
    ),
  ];
  return h(
    "div",
    {},
    h("div", { class: "ns-card-body ns-sections" }, [...sections].map(rows)),
    h(
      "details",
      { class: "ns-details" },
      h("summary", {}, "As JSON"),
      h("pre", { class: "ns-json", tabindex: 0 }, JSON.stringify(spec, null, 2)),
    ),
  );
}
