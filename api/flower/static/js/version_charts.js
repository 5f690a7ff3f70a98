// A small chart of each metric by model version.

import { fill, h } from "./dom.js";
import { betterText, figureName, measure } from "./figures.js";
import { number } from "./format.js";

const HEIGHT = 150;
/** Charts shown before "All" is pressed. */
const FIRST = 6;
/** @type {uPlot[]} */
let charts = [];
let all = false;

/** @param {string} name */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";

/**
 * @param {ModelPage} model
 * @param {string} name
 * @returns {(number | null)[][]}
 */
function series(model, name) {
  const { version, value } = model.charts[name];
  const pointed = new Set(model.aliases.filter(({ alias }) => alias === "champion").map((one) => one.version));
  return [version, value, value.map((one, place) => (pointed.has(version[place]) ? one : null))];
}

/**
 * @param {number} width
 * @param {number} count
 * @param {(place: number | null | undefined) => void} say
 * @returns {uPlot.Options}
 */
function options(width, count, say) {
  const [line, muted, grid, star] = [
    color("--ns-running"),
    color("--flower-text-muted"),
    color("--bs-border-color"),
    color("--ns-succeeded"),
  ];
  const axis = {
    stroke: muted,
    grid: { stroke: grid, width: 1 },
    ticks: { stroke: grid, size: 4 },
    font: "11px system-ui, sans-serif",
  };
  return {
    width,
    height: HEIGHT,
    scales: { x: { time: false } },
    cursor: { drag: { x: false, y: false }, points: { size: 7 } },
    legend: { show: false },
    hooks: { setCursor: [(chart) => say(chart.cursor.idx)] },
    series: [
      {},
      { stroke: line, width: count > 80 ? 1.25 : 2, points: { show: count <= 80, size: 5, fill: line } },
      {
        stroke: star,
        width: 0,
        paths: () => null,
        points: { show: true, size: 11, width: 2, stroke: star, fill: "transparent" },
      },
    ],
    axes: [
      { ...axis, size: 26, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], space: 34 },
      { ...axis, size: 54, values: (_, splits) => splits.map((at) => number(at, 3)) },
    ],
  };
}

/**
 * @param {ModelPage} model
 * @param {string} name
 */
function figure(model, name) {
  const data = series(model, name);
  const last = data[0].length - 1;
  const holder = h("div", { class: "ns-version-plot" });
  const value = h("span", { class: "ns-version-value" });
  /**
   * Show the version under the pointer, else the newest.
   * @param {number | null | undefined} place
   */
  const say = (place) => {
    const at = place ?? last;
    value.textContent = `version ${data[0][at]}: ${measure(name, data[1][at] ?? NaN)}`;
  };
  say(last);
  const text = `${figureName(name)} of ${model.total} versions, the newest ${measure(name, data[1][last] ?? NaN)}`;
  const sense = betterText(model.senses[name]);
  return {
    data,
    holder,
    say,
    card: h(
      "figure",
      { class: "ns-version-chart", role: "img", "aria-label": text },
      h(
        "figcaption",
        {},
        h(
          "span",
          { class: "ns-version-name" },
          figureName(name),
          sense ? h("span", { class: "ns-muted" }, ` · ${sense}`) : null,
        ),
        value,
      ),
      holder,
    ),
  };
}

/**
 * Draw the charts into `box`.
 * @param {HTMLElement} box
 * @param {ModelPage} model
 */
export function drawCharts(box, model) {
  for (const chart of charts) chart.destroy();
  const names = Object.keys(model.senses).filter((name) => model.charts[name].version.length);
  const figures = (all ? names : names.slice(0, FIRST)).map((name) => figure(model, name));
  const more =
    names.length > FIRST
      ? h(
          "button",
          {
            class: "btn btn-sm btn-outline-secondary",
            type: "button",
            "data-key": "more-charts",
            onclick: () => {
              all = !all;
              drawCharts(box, model);
            },
          },
          all ? "Fewer" : `All ${names.length} metrics`,
        )
      : null;
  fill(
    box,
    h(
      "div",
      { class: "ns-version-charts" },
      figures.map(({ card }) => card),
    ),
    more && h("div", { class: "ns-more" }, more),
  );
  charts = figures.map(
    ({ data, holder, say }) =>
      new uPlot(options(holder.clientWidth || 300, data[0].length, say), /** @type {any} */ (data), holder),
  );
}

/**
 * @param {HTMLElement} box
 * @param {() => ModelPage} model
 */
export function redrawOnChange(box, model) {
  let [width, waiting] = [box.clientWidth, 0];
  const again = () => {
    clearTimeout(waiting);
    waiting = window.setTimeout(() => drawCharts(box, model()), 100);
  };
  new ResizeObserver(() => {
    if (box.clientWidth !== width) {
      width = box.clientWidth;
      again();
    }
  }).observe(box);
  new MutationObserver(again).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["data-bs-theme"],
  });
}
