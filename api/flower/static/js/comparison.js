// Versions side by side: every metric with the best of them, and the settings in which their jobs differ.

import { fill, h } from "./dom.js";
import { betterText, figureName, isOfSteps, measure } from "./figures.js";
import { number } from "./format.js";
import { url } from "./site.js";

/** @param {unknown} value */
const shown = (value) =>
  value === null || value === undefined
    ? h("span", { class: "ns-muted" }, "–")
    : typeof value === "number"
      ? number(value)
      : typeof value === "object"
        ? JSON.stringify(value)
        : String(value);

/**
 * Return the difference from the first version: "+0.5 points" of fractions, "−12 %" of the rest.
 * @param {string} name
 * @param {unknown} value
 * @param {unknown} first
 */
function difference(name, value, first) {
  if (typeof value !== "number" || typeof first !== "number" || value === first) return null;
  const sign = value > first ? "+" : "−";
  if (measure(name, value).endsWith("%")) return `${sign}${Math.abs(100 * (value - first)).toFixed(2)} points`;
  return first === 0 ? null : `${sign}${Math.abs((100 * (value - first)) / first).toFixed(1)}%`;
}

/** @param {Comparison["metrics"][number]} row */
function metricRow({ name, sense, values, best }) {
  const cells = values.map((value, place) =>
    h(
      "td",
      { class: `ns-number${best.includes(place) ? " ns-best" : ""}` },
      typeof value === "number" ? measure(name, value) : "–",
      best.includes(place) ? h("span", { class: "visually-hidden" }, " best") : null,
      place && !isOfSteps(name) ? h("span", { class: "ns-sub" }, difference(name, value, values[0])) : null,
    ),
  );
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, figureName(name), sense ? h("span", { class: "ns-sub" }, betterText(sense)) : null),
    cells,
  );
}

/** @param {Comparison["settings"][number]} row */
const settingRow = ({ name, values }) =>
  h(
    "tr",
    {},
    h("th", { scope: "row" }, h("code", {}, name)),
    values.map((value) => h("td", { class: "ns-number" }, shown(value))),
  );

/**
 * @param {string} caption
 * @param {number[]} versions
 * @param {Child[]} rows
 */
function table(caption, versions, rows) {
  // Fixed columns align the tables; on a narrow screen they scroll.
  return h(
    "div",
    { class: "ns-scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      { class: "ns-table ns-compare-table", style: { minWidth: `${10 + 6 * versions.length}rem` } },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, caption),
          versions.map((version) => h("th", { scope: "col", class: "ns-number" }, `version ${version}`)),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );
}

/**
 * @param {HTMLElement} card
 * @param {Comparison | null} comparison
 * @param {() => void} onClear
 */
export function drawComparison(card, comparison, onClear) {
  card.hidden = !comparison;
  if (!comparison) return fill(card);
  const { versions, jobs, metrics, settings, datasets } = comparison;
  const ids = jobs.filter(Boolean);
  const names = datasets.map((name) => name || "unknown").join(", ");
  fill(
    card,
    h(
      "div",
      { class: "ns-card-head" },
      h("h2", {}, `Versions ${versions.join(", ")}`),
      h(
        "div",
        { class: "ns-buttons" },
        ids.length > 1
          ? h(
              "a",
              { class: "btn btn-sm btn-outline-secondary", href: url(`/compare?ids=${ids.join(",")}`) },
              "Compare their curves",
            )
          : null,
        h("button", { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: onClear }, "Close"),
      ),
    ),
    comparison.same_dataset
      ? null
      : h("p", { class: "ns-note", role: "note" }, `Measured on different data (${names}): not directly comparable.`),
    table("Metric", versions, metrics.map(metricRow)),
    settings.length
      ? table("Setting", versions, settings.map(settingRow))
      : h(
          "p",
          { class: "ns-note" },
          ids.length > 1 ? "Their jobs have the same settings." : "Their settings are not available.",
        ),
  );
}
