// Tables and pictures of the job page.

import { h } from "./dom.js";
import { bytes, duration, exact, number, seconds } from "./format.js";
import { stateBadge } from "./parts.js";
import { ago, url } from "./site.js";

const SIGNALS = { 1: "SIGHUP", 2: "SIGINT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM", 24: "SIGXCPU" };

const none = (text) => h("p", { class: "ns-muted ns-none" }, text);
const table = (heads, rows) => h("div", { class: "ns-scroll" }, h("table", { class: "ns-table" },
  h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows)));

/** The job's life as a bar: waiting, queued, running (one stretch per attempt), paused. */
export function timelineBar(stretches, now) {
  if (!stretches.length) return null;
  const lengths = stretches.map((stretch) => Math.max(0, seconds(stretch.from, stretch.to || now)));
  const total = lengths.reduce((sum, length) => sum + length, 0) || 1;
  const parts = stretches.map((stretch, place) => {
    const tone = stretch.outcome && stretch.outcome !== "succeeded" ? stretch.outcome : stretch.state;
    const what = stretch.state === "running" ? `Attempt ${stretch.attempt}${stretch.outcome ? `: ${stretch.outcome.replaceAll("_", " ")}` : ""}` : stretch.state;
    return { tone, length: lengths[place], text: `${what}, ${duration(lengths[place])}, from ${exact(stretch.from)}` };
  });
  return h("div", { class: "ns-timeline" },
    h("div", { class: "ns-timeline-bar", role: "img", "aria-label": parts.map((part) => part.text).join("; ") },
      parts.map((part) => h("span", { class: `ns-stretch ns-${part.tone}`, title: part.text, style: { flexGrow: String(Math.max(part.length / total, 0.004)) } }))),
    h("div", { class: "ns-timeline-ends" }, ago(stretches[0].from), h("span", {}, duration(total)), stretches.at(-1).to ? ago(stretches.at(-1).to) : "now"));
}

/** Why an attempt ended, with what was found of it. */
function evidence(attempt) {
  const lines = [];
  const kept = attempt.outcome && attempt.outcome !== "succeeded" ? attempt.evidence || {} : {};
  if (attempt.error) lines.push(h("div", { class: "ns-error" }, h("strong", {}, String(attempt.error.type || "error").replaceAll("_", " ")), attempt.error.message ? `: ${attempt.error.message}` : null));
  const found = [
    kept.phase ? `was at ${[kept.phase, kept.step !== null && kept.step !== undefined ? `step ${number(kept.step)}` : null].filter(Boolean).join(", ")}` : null,
    attempt.resumed_step !== null && attempt.resumed_step !== undefined ? `resumed from step ${number(attempt.resumed_step)}` : null,
    attempt.signal ? `signal ${attempt.signal}${SIGNALS[attempt.signal] ? ` (${SIGNALS[attempt.signal]})` : ""}` : null,
    attempt.exit_code ? `exit code ${attempt.exit_code}` : null,
    attempt.peak_memory_bytes ? `peak memory ${bytes(attempt.peak_memory_bytes)}` : null,
    attempt.peak_device_memory_bytes ? `on the device ${bytes(attempt.peak_device_memory_bytes)}` : null,
  ].filter(Boolean);
  if (found.length) lines.push(h("div", { class: "ns-muted" }, found.join(" · ")));
  if (kept.log_tail?.length) lines.push(h("details", { class: "ns-last-lines" }, h("summary", {}, "Last lines"), h("pre", { class: "ns-json", tabindex: 0 }, kept.log_tail.join("\n"))));
  return lines;
}

export function attemptsTable(attempts, now) {
  if (!attempts.length) return none("No worker has taken it yet.");
  return h("ol", { class: "ns-attempts" }, [...attempts].reverse().map((attempt) =>
    h("li", {},
      h("div", { class: "ns-attempt-head" },
        h("strong", {}, `Attempt ${attempt.attempt}`), stateBadge(attempt.outcome || "running"),
        h("span", { class: "ns-muted" }, duration(seconds(attempt.started_at, attempt.ended_at || now)))),
      h("div", { class: "ns-muted" }, ago(attempt.started_at), ` on ${attempt.worker}`, attempt.device ? ` · ${attempt.device}` : null),
      evidence(attempt))));
}

export function checkpointsTable(checkpoints, isFinal) {
  if (!checkpoints.length) return none(isFinal ? "None is kept." : "None yet.");
  return table(["Step", "Epoch", "Size", "Written"], checkpoints.map((one) => h("tr", {},
    h("td", {}, number(one.step), one.is_best ? h("span", { class: "ns-badge ns-succeeded ns-beside" }, "best") : null, one.state !== "ready" ? [" ", stateBadge(one.state)] : null),
    h("td", {}, number(one.epoch)), h("td", { class: "ns-nowrap", title: `SHA-256 ${one.sha256}` }, bytes(one.size_bytes)), h("td", { class: "ns-nowrap" }, ago(one.created_at)))));
}

const fileUrl = (id, path) => url(`/jobs/${id}/files/${path.split("/").map(encodeURIComponent).join("/")}`);

export function artifactsTable(artifacts, id, isFinal) {
  if (!artifacts.length) return none(isFinal ? "It left none." : "They are listed when the job succeeds.");
  return table(["File", "Size", ""], artifacts.map((file) => h("tr", {},
    h("td", {}, h("a", { href: fileUrl(id, file.path), target: "_blank", rel: "noopener" }, file.path), h("span", { class: "ns-sub", title: `SHA-256 ${file.sha256}` }, file.media_type)),
    h("td", { class: "ns-nowrap" }, bytes(file.size_bytes)),
    h("td", { class: "ns-number" }, h("a", { class: "btn btn-sm btn-outline-secondary", href: `${fileUrl(id, file.path)}?save=1`, download: true, "aria-label": `Save ${file.path}` }, "Save")))));
}

/**
 * Pictures, each drawn again only when its content changed. Those that differ by a number only (`samples/epoch-003.png`)
 * share a place with a slider, the newest first.
 */
export function pictures(box, artifacts, id) {
  const groups = new Map();
  for (const file of artifacts.filter(({ media_type: type }) => /^image\/(png|jpeg)$/.test(type))) {
    const place = file.path.replace(/\d+/g, "#");
    groups.set(place, [...(groups.get(place) || []), file]);
  }
  const there = new Map([...box.children].map((child) => [child.dataset.key, child]));
  const elements = [...groups].map(([place, files]) => {
    const key = `${place} ${files.map((file) => file.sha256.slice(0, 12)).join(" ")}`;
    return there.get(key) || picture(key, files, id);
  });
  if (elements.some((element, place) => box.children[place] !== element) || box.children.length !== elements.length) box.replaceChildren(...elements);
}

function picture(key, files, id) {
  const [link, image, caption] = [h("a", { target: "_blank", rel: "noopener" }), h("img", { loading: "lazy" }), h("figcaption", {})];
  const show = (file) => {
    image.alt = caption.textContent = file.path;
    link.href = fileUrl(id, file.path);
    image.src = `${link.href}?v=${file.sha256.slice(0, 12)}`;
  };
  link.append(image);
  show(files.at(-1));
  const slider = files.length > 1 ? h("input", { type: "range", class: "form-range", min: 0, max: files.length - 1, value: files.length - 1, "aria-label": "Which of these pictures", oninput: (event) => show(files[event.target.value]) }) : null;
  return h("figure", { class: "ns-picture", "data-key": key }, link, slider, caption);
}

/** A nested value as [path, leaf] pairs; null is left out. */
export function flat(value, path = []) {
  if (value === null || value === undefined) return [];
  if (typeof value !== "object" || Array.isArray(value)) return Array.isArray(value) && !value.length ? [] : [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => flat(inner, [...path, key]));
}

export const leaf = (value) => (typeof value === "number" ? number(value, 6) : typeof value === "object" ? JSON.stringify(value) : String(value));

/** A spec by its sections, with the whole of it as JSON below. */
export function specList(spec) {
  const sections = new Map();
  for (const [path, value] of flat(spec)) {
    const section = path.length > 1 ? path[0] : "job";
    sections.set(section, [...(sections.get(section) || []), [path.slice(path.length > 1 ? 1 : 0).join("."), value]]);
  }
  const rows = ([title, entries]) => [h("h3", {}, title), h("dl", { class: "ns-values" }, entries.map(([name, value]) => [h("dt", {}, name), h("dd", {}, leaf(value))]))];
  return h("div", {}, h("div", { class: "ns-card-body ns-sections" }, [...sections].map(rows)),
    h("details", { class: "ns-details" }, h("summary", {}, "As JSON"), h("pre", { class: "ns-json", tabindex: 0 }, JSON.stringify(spec, null, 2))));
}
