// The queue, in the order in which jobs will start, with reasons.

import { fill, h } from "./dom.js";
import { kindLabel } from "./facts.js";
import { duration, number } from "./format.js";
import { ago, url } from "./site.js";
import { drawTable } from "./table.js";

/** Jobs shown before "more" is pressed. */
const FIRST = 5;
let kind = "all";
let everything = false;
/** @param {QueuedJob} job */
const fits = (job) => kind === "all" || job.device === "auto" || job.device === kind;

/** @param {QueuedJob} job */
const named = (job) =>
  job.id
    ? [
        h(
          "a",
          { class: "ns-name", href: url(`/jobs/${job.id}`), "data-key": `queued-${job.id}` },
          job.name || [kindLabel(job.kind), job.dataset].filter(Boolean).join(" "),
        ),
        h(
          "span",
          { class: "ns-sub" },
          h("code", {}, job.id.slice(0, 8)),
          ` · ${[kindLabel(job.kind), job.family, job.who].filter(Boolean).join(" · ")}`,
        ),
      ]
    : h("span", { class: "ns-muted" }, "another owner's job");

/** @type {Column<QueuedJob & { place: number | null }>[]} */
const COLUMNS = [
  {
    label: "Position",
    class: "ns-number",
    cell: (job) => (job.place ? h("strong", {}, job.place) : h("span", { class: "ns-muted" }, "later")),
  },
  { label: "Job", class: "ns-wide", cell: named },
  {
    label: "Device",
    class: "ns-nowrap",
    cell: (job) => [
      job.device === "auto" ? "any device" : job.device.toUpperCase(),
      h("span", { class: "ns-sub" }, job.framework),
    ],
  },
  {
    label: "Priority",
    class: "ns-number",
    cell: (job) => [job.priority, job.preempts ? h("span", { class: "ns-sub" }, "urgent") : null],
  },
  { label: "Waiting", class: "ns-nowrap", cell: (job) => (job.place ? duration(job.waited_seconds) : ago(job.run_at)) },
  { label: "Why", cell: (job) => job.why || h("span", { class: "ns-muted" }, "–") },
];

/** @param {Queue} queue */
function summary({ counts, devices }) {
  /** @type {Record<string, string>} */
  const named = { auto: "for any device", cpu: "for a CPU", gpu: "for a GPU" };
  const parts = Object.entries(devices).map(
    ([device, { count, oldest_seconds: oldest }]) =>
      `${number(count)} ${named[device] || device}, the oldest for ${duration(oldest)}`,
  );
  const rest = [
    counts.later && `${number(counts.later)} later`,
    counts.waiting && [
      h("a", { href: url("/jobs?state=waiting") }, `${number(counts.waiting)} waiting for other jobs`),
    ],
    counts.paused && [h("a", { href: url("/jobs?state=paused") }, `${number(counts.paused)} paused`)],
  ];
  const all = [...parts, ...rest].filter(Boolean);
  return all.length ? all.flatMap((part, place) => (place ? [" · ", part] : [part])) : "The queue is empty.";
}

/**
 * Draw the queue into its elements.
 * @param {{ said: Element, tools: Element, table: HTMLElement, more: Element }} boxes
 * @param {Queue} queue
 */
export function drawQueue(boxes, queue) {
  const again = () => drawQueue(boxes, queue);
  /** @param {string} one */
  const choose = (one) =>
    h(
      "button",
      {
        type: "button",
        class: "ns-chip",
        "aria-pressed": String(kind === one),
        "data-key": `kind-${one}`,
        onclick: () => {
          kind = one;
          again();
        },
      },
      { all: "All", cpu: "CPU", gpu: "GPU" }[one],
    );
  fill(boxes.said, summary(queue));
  fill(boxes.tools, ["all", "cpu", "gpu"].map(choose));
  const due = queue.due.filter(fits).map((job, place) => ({ ...job, place: place + 1 }));
  const rows = [...due, ...queue.later.filter(fits).map((job) => ({ ...job, place: null }))];
  const shown = everything ? rows : rows.slice(0, FIRST);
  boxes.table.hidden = !shown.length;
  drawTable(boxes.table, COLUMNS, shown, { key: (job) => job.id || `${job.place}-${job.run_at}` });
  const rest = rows.length - shown.length;
  const beyond = queue.counts.due - queue.due.length;
  fill(
    boxes.more,
    rest > 0
      ? h(
          "button",
          {
            class: "btn btn-sm btn-outline-secondary",
            type: "button",
            "data-key": "whole-queue",
            onclick: () => {
              everything = true;
              again();
            },
          },
          `${number(rest)} more`,
        )
      : null,
    !rest && everything && beyond > 0
      ? h("span", { class: "ns-muted" }, `and ${number(beyond)} more behind them`)
      : null,
  );
}
