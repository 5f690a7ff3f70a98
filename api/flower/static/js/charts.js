// Line charts on uPlot: several curves with x values of their own, smoothing, logarithmic scale, zoom by dragging.

import { positive, smooth, spread } from "./curves.js";
import { fill, h } from "./dom.js";
import { measure, metricName } from "./figures.js";
import { duration, number } from "./format.js";

/* global uPlot */

const PALETTE = [
  "#2f6feb",
  "#e8590c",
  "#2b9348",
  "#9c36b5",
  "#d6336c",
  "#0c8599",
  "#e0a100",
  "#5f3dc4",
  "#868e96",
  "#a0522d",
  "#66a80f",
  "#1098ad",
];
/** @param {number} place */
export const color = (place) => PALETTE[place % PALETTE.length];

/** @param {string} name */
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
/** @param {number | null | undefined} value */
const compact = (value) => {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size >= 1e6) return `${number(value / 1e6, 3)}M`;
  if (size >= 1e4) return `${number(value / 1e3, 3)}k`;
  return size && size < 1e-3 ? value.toExponential(1).replace(".0e", "e") : number(value, 3);
};

/**
 * The choices of the tools above the charts, kept in local storage.
 * @type {{ smoothing: number, log: boolean, x: string }}
 */
export const options = { smoothing: 0, log: false, x: "step", ...stored() };

function stored() {
  try {
    const {
      smoothing = 0,
      log = false,
      x = "step",
    } = JSON.parse(localStorage.getItem("nightshift-charts") ?? "null") || {};
    return {
      smoothing: Math.min(0.99, Math.max(0, Number(smoothing) || 0)),
      log: Boolean(log),
      x: x === "time" ? "time" : "step",
    };
  } catch {
    return {};
  }
}

/**
 * Draw the tools: smoothing, scale, x axis. `change` is called after each change.
 * @param {Element} box
 * @param {() => void} change
 */
export function drawTools(box, change) {
  /** @param {Partial<typeof options>} changes */
  const set = (changes) => {
    Object.assign(options, changes);
    try {
      localStorage.setItem("nightshift-charts", JSON.stringify(options));
    } catch {
      /* private mode: not kept */
    }
    change();
  };
  const shown = h("output", { class: "ns-muted" }, options.smoothing.toFixed(2));
  fill(
    box,
    h(
      "label",
      { class: "ns-tool" },
      "Smoothing",
      h("input", {
        type: "range",
        class: "form-range",
        min: 0,
        max: 0.99,
        step: 0.01,
        value: options.smoothing,
        id: "smoothing",
        oninput: (event) => {
          shown.textContent = Number(event.target.value).toFixed(2);
          set({ smoothing: Number(event.target.value) });
        },
      }),
      shown,
    ),
    h(
      "label",
      { class: "ns-tool" },
      h("input", {
        type: "checkbox",
        class: "form-check-input",
        id: "log-scale",
        checked: options.log,
        onchange: (event) => set({ log: event.target.checked }),
      }),
      "Log scale",
    ),
    h(
      "label",
      { class: "ns-tool" },
      "X axis",
      h(
        "select",
        { class: "form-select form-select-sm", id: "x-axis", onchange: (event) => set({ x: event.target.value }) },
        h("option", { value: "step", selected: options.x === "step" }, "Step"),
        h("option", { value: "time", selected: options.x === "time" }, "Time"),
      ),
    ),
  );
}

/** @param {Line} line */
const latest = ({ label, name, curve }) => `${label} ${measure(name, curve.value.at(-1) ?? NaN)}`;

/** One chart. `update(title, lines)` with lines [{label, color, curve, name, from}]; `from` is the zero of its time. */
class Chart {
  /**
   * `x` fixes the x axis ("step" or "time"); without it the tools choose.
   * @param {string | null} x
   */
  constructor(x = null) {
    this.fixed = x;
    this.plot = h("div", { class: "ns-plot" });
    this.title = h("h3", {});
    this.element = h("figure", { class: "ns-chart" }, this.title, this.plot);
    /** @type {uPlot | null} */
    this.chart = null;
    this.shape = "";
    this.zoomed = false;
    new ResizeObserver(() => this.chart?.setSize(this.size())).observe(this.plot);
  }

  get across() {
    return this.fixed || options.x;
  }

  size() {
    return { width: Math.max(240, this.plot.clientWidth), height: 220 };
  }

  /**
   * @param {string} title
   * @param {Line[]} lines
   */
  update(title, lines) {
    const prepared = lines.map((line) => this.prepared(line));
    const data = uPlot.join(/** @type {any[]} */ (prepared));
    const anything = prepared.some(([, , values]) => values.some((value) => value !== null));
    this.title.textContent = metricName(title);
    this.element.setAttribute("aria-label", `${metricName(title)}: ${lines.map(latest).join(", ")}`);
    const shape = JSON.stringify([
      options,
      anything,
      lines.map((line) => [line.label, line.color, line.curve.step.length < 60]),
    ]);
    if (this.chart && shape === this.shape) {
      this.chart.setData(data, !this.zoomed);
      if (this.zoomed) this.chart.redraw();
      return;
    }
    this.shape = shape;
    this.zoomed = false;
    this.chart?.destroy();
    this.chart = new uPlot(this.settings(lines, options.log && anything), data, this.plot);
    if (options.log && !anything)
      this.title.append(h("span", { class: "ns-sub" }, "nothing above zero to draw on a log scale"));
  }

  /** @param {Line} line */
  prepared({ curve, from }) {
    const x = this.across === "time" ? spread(curve.at).map((at) => Math.max(0, at - from)) : curve.step;
    const [raw, smoothed] = [curve.value, smooth(curve.value, options.smoothing)].map((values) =>
      options.log ? positive(values) : values,
    );
    return this.across === "time" ? ascending([x, raw, smoothed]) : [x, raw, smoothed];
  }

  /**
   * @param {Line[]} lines
   * @param {boolean} log
   * @returns {uPlot.Options}
   */
  settings(lines, log) {
    const axis = {
      stroke: () => css("--flower-text-muted"),
      grid: { stroke: () => css("--bs-border-color"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    const inTime = this.across === "time";
    /** @param {number} value */
    const across = (value) => (inTime ? duration(value) : `step ${number(value)}`);
    return {
      ...this.size(),
      scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
      axes: [
        {
          ...axis,
          values: (_, splits) => splits.map(inTime ? duration : compact),
          space: 70,
          size: 28,
        },
        { ...axis, values: (_, splits) => splits.map(compact), size: 52 },
      ],
      series: [
        { label: this.across, value: (_, value) => (value === null || value === undefined ? "latest" : across(value)) },
        ...lines.flatMap((line) => series(line)),
      ],
      cursor: { sync: { key: this.fixed || "ns" }, drag: { x: true, y: false }, points: { size: 7 } },
      legend: { live: true },
      hooks: {
        setSelect: [
          (chart) => {
            if (chart.select.width > 0) this.zoomed = true;
          },
        ],
        init: [
          (chart) =>
            chart.over.addEventListener("dblclick", () => {
              this.zoomed = false;
            }),
        ],
      },
    };
  }
}

/**
 * Return the raw curve, drawn faintly, and its smoothed one.
 * @param {Line} line
 * @returns {uPlot.Series[]}
 */
function series({ label, color: stroke, name, curve }) {
  const points = { show: curve.step.length < 60, size: 5, fill: stroke };
  return [
    {
      label,
      class: "ns-raw",
      stroke: `${stroke}44`,
      width: 1,
      spanGaps: true,
      show: options.smoothing > 0,
      points: { show: false },
    },
    {
      label,
      stroke,
      width: 1.75,
      spanGaps: true,
      points,
      value: (chart, value, place, index) => {
        const shown =
          index === null || index === undefined
            ? /** @type {(number | null | undefined)[]} */ (chart.data[place]).findLast(
                (one) => one !== null && one !== undefined,
              )
            : value;
        return shown === null || shown === undefined ? "–" : measure(name, shown);
      },
    },
  ];
}

/**
 * Sort columns by x and drop duplicates: a resumed attempt may have earlier times than kept points.
 * @param {(number | null)[][]} columns
 */
function ascending([x, ...columns]) {
  const order = x
    .map((_, index) => index)
    .sort((a, b) => Number(x[a]) - Number(x[b]))
    .filter((index, place, all) => !place || x[index] !== x[all[place - 1]]);
  return [x, ...columns].map((column) => order.map((index) => column[index]));
}

/** Charts by title, created as metrics appear. */
export class Charts {
  /**
   * @param {Element} box
   * @param {string | null} x
   */
  constructor(box, x = null) {
    this.box = box;
    this.x = x;
    /** @type {Map<string, Chart>} */
    this.charts = new Map();
    const redraw = () => {
      for (const { chart } of this.charts.values()) chart?.redraw();
    };
    new MutationObserver(redraw).observe(document.documentElement, {
      attributeFilter: ["data-bs-theme"],
    });
  }

  /** @param {ChartGroup[]} groups */
  draw(groups) {
    for (const { title, lines } of groups) {
      if (!this.charts.has(title)) {
        this.charts.set(title, new Chart(this.x));
        this.place(groups);
      }
      this.charts.get(title)?.update(title, lines);
    }
  }

  /** @param {{ title: string }[]} groups */
  place(groups) {
    this.box.replaceChildren(...groups.flatMap(({ title }) => this.charts.get(title)?.element ?? []));
  }
}
