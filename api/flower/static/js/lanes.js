// The history of devices: a lane per device, a bar per attempt in the color of its outcome.

import { fill, h } from "./dom.js";
import { kindLabel } from "./facts.js";
import { duration, exact } from "./format.js";
import { stateBadge } from "./parts.js";
import { url } from "./site.js";

export const WINDOWS = { hour: "Last hour", day: "24 hours", week: "7 days" };

/** @param {Span} span */
const title = (span) =>
  span.job_id
    ? span.name || [kindLabel(span.kind ?? ""), span.family, span.dataset].filter(Boolean).join(" ")
    : "another owner's job";
/**
 * @param {number} time
 * @param {boolean} long
 */
const clock = (time, long) =>
  new Date(time).toLocaleString(
    undefined,
    long
      ? { weekday: "short", hour: "2-digit", minute: "2-digit" }
      : { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  );
/** @param {Span} span */
const seconds = (span) => (span.to - span.from) / 1000;
/** @param {Span} span */
const words = (span) => (span.count > 1 ? `${span.count} attempts, the first ${title(span)}` : title(span));
/** @param {Span} span */
const said = (span) =>
  `${words(span)}: ${span.outcome.replaceAll("_", " ")}, ${duration(seconds(span))}, from ${exact(span.from)}`;

/**
 * @param {PackedSpan} packed
 * @param {Past["jobs"]} jobs
 * @returns {Span}
 */
const whole = ([from, to, outcome, count, id], jobs) => ({
  from,
  to,
  outcome,
  count,
  job_id: id,
  ...(id ? jobs[id] : {}),
});

/**
 * Describe the bar under the pointer or with the focus.
 * @param {Element} box
 * @param {Span | null} span
 * @param {string} device
 */
function tell(box, span, device) {
  fill(
    box,
    span
      ? [
          h(
            "strong",
            {},
            span.job_id ? h("a", { class: "ns-name", href: url(`/jobs/${span.job_id}`) }, words(span)) : words(span),
          ),
          stateBadge(span.outcome),
          h("span", { class: "ns-muted" }, `${device} · ${clock(span.from, true)} · ${duration(seconds(span))}`),
        ]
      : h(
          "span",
          { class: "ns-muted" },
          "Point at a bar, or go through a lane with the arrow keys, to see what ran; Enter opens the job.",
        ),
  );
}

/**
 * @param {Span} span
 * @param {string} device
 * @param {number} since
 * @param {number} length
 * @param {Element} box
 */
function bar(span, device, since, length, box) {
  const left = (100 * (span.from - since)) / length;
  const width = (100 * (span.to - span.from)) / length;
  const show = () => tell(box, span, device);
  const element = h(span.job_id ? "a" : "span", {
    class: `ns-bar ns-${span.outcome}${span.count > 1 ? " ns-bar-many" : ""}`,
    href: span.job_id ? url(`/jobs/${span.job_id}`) : null,
    "aria-label": said(span),
    tabindex: -1,
    role: span.job_id ? null : "img",
    "data-key": `bar-${device}-${span.from}`,
    style: { left: `${left.toFixed(3)}%`, width: `max(3px, ${width.toFixed(3)}%)` },
    onpointerenter: show,
    onfocus: show,
  });
  // Touch cannot hover: a tap describes the bar, and the description has the link.
  element.addEventListener("click", (event) => {
    if (event instanceof PointerEvent && event.pointerType === "touch") {
      event.preventDefault();
      show();
    }
  });
  return element;
}

/**
 * Make a lane one Tab stop; arrow keys move between bars.
 * @param {HTMLElement} lane
 */
function byArrows(lane) {
  const bars = [.../** @type {NodeListOf<HTMLElement>} */ (lane.querySelectorAll(".ns-bar"))];
  if (!bars.length) return;
  bars[bars.length - 1].tabIndex = 0;
  lane.addEventListener("keydown", (event) => {
    const place = bars.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: bars.length - 1 }[event.key];
    if (place < 0 || next === undefined || !bars[next]) return;
    event.preventDefault();
    bars[place].tabIndex = -1;
    bars[next].tabIndex = 0;
    bars[next].focus();
  });
}

const STEPS = { hour: [5, 4], day: [6, 4], week: [7, 7] };

/**
 * @param {Past["window"]} window
 * @param {number} since
 * @param {number} length
 */
function axis(window, since, length) {
  const [, count] = STEPS[window];
  /** @param {number} part */
  const at = (part) => new Date(since + (length * part) / count);
  /** @param {Date} moment */
  const text = (moment) =>
    window === "week"
      ? moment.toLocaleDateString(undefined, { weekday: "short", day: "numeric" })
      : moment.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  return h(
    "div",
    { class: "ns-lane-axis", "aria-hidden": "true" },
    Array.from({ length: count + 1 }, (_, part) =>
      h("span", { style: { left: `${(100 * part) / count}%` } }, part === count ? "now" : text(at(part))),
    ),
  );
}

/**
 * Draw the lanes into `box`; `told` describes one bar.
 * @param {Element} box
 * @param {Element} told
 * @param {Past} past
 */
export function drawLanes(box, told, { window, since, now, devices, jobs }) {
  const length = now - since;
  /** @param {[string, Past["devices"][string]]} entry */
  const lane = ([name, { busy_share: share, attempts, outcomes, spans }]) => {
    const ended = Object.entries(outcomes)
      .map(([outcome, count]) => `${count} ${outcome.replaceAll("_", " ")}`)
      .join(", ");
    const bars = h(
      "div",
      {
        class: "ns-lane-bars",
        role: "group",
        "aria-label": `${name}: ${attempts} attempts, busy ${Math.round(share * 100)}% of the time`,
      },
      spans.map((span) => bar(whole(span, jobs), name, since, length, told)),
    );
    byArrows(bars);
    return h(
      "div",
      { class: "ns-lane" },
      h("span", { class: "ns-lane-name", title: name }, name),
      bars,
      h(
        "span",
        { class: "ns-lane-share", title: ended || "idle all the time" },
        `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)}%`,
      ),
    );
  };
  fill(
    box,
    h(
      "div",
      { class: "ns-lanes" },
      Object.entries(devices).map(lane),
      h(
        "div",
        { class: "ns-lane" },
        h("span", {}),
        axis(window, since, length),
        h("span", { class: "ns-lane-share ns-muted" }, "busy"),
      ),
    ),
  );
  if (!told.hasChildNodes()) tell(told, null, "");
}
