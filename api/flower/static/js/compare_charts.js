// A scatter chart and parallel coordinates, in SVG; every job can be reached with pointer, touch and keyboard.

import { isWide, scaleOf, short } from "./compare_values.js";
import { fill, h, svg } from "./dom.js";
import { url } from "./site.js";

/**
 * Width in pixels: as wide as the box, so that text keeps its size; a narrower box scrolls.
 * @param {Element} box
 */
export const widthOf = (box) => Math.max(560, box.clientWidth);
/**
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2
 * @param {string} name
 */
const line = (x1, y1, x2, y2, name = "ns-axis") => svg("line", { class: name, x1, y1, x2, y2 });
/**
 * @param {number} x
 * @param {number} y
 * @param {string} words
 * @param {Attributes} attributes
 */
const text = (x, y, words, attributes = {}) =>
  svg("text", { x, y, ...attributes }, words.length > 44 ? `${words.slice(0, 43)}…` : words);

/**
 * Make a chart one Tab stop; arrow keys move between jobs, Home and End go to the first and last.
 * @param {HTMLElement} box
 */
export function walkable(box) {
  box.addEventListener("keydown", (event) => {
    const marks = [.../** @type {NodeListOf<SVGAElement>} */ (box.querySelectorAll(".ns-mark"))];
    const here = marks.indexOf(/** @type {SVGAElement} */ (document.activeElement));
    const next = {
      ArrowRight: here + 1,
      ArrowDown: here + 1,
      ArrowLeft: here - 1,
      ArrowUp: here - 1,
      Home: 0,
      End: marks.length - 1,
    }[event.key];
    if (here < 0 || next === undefined) return;
    event.preventDefault();
    const mark_ = marks[Math.min(marks.length - 1, Math.max(0, next))];
    for (const one of marks) one.setAttribute("tabindex", one === mark_ ? "0" : "-1");
    mark_.focus();
  });
}

/** @param {Element} box */
export const oneStop = (box) => {
  for (const [place, one] of box.querySelectorAll(".ns-mark").entries())
    one.setAttribute("tabindex", place ? "-1" : "0");
};

/**
 * Return a link to a job around `shapes`, labeled with `told`.
 * @param {ComparedJob} job
 * @param {string} told
 * @param {Child[]} shapes
 */
export function mark(job, told, ...shapes) {
  return svg(
    "a",
    {
      class: "ns-mark",
      href: url(`/jobs/${job.id}`),
      "data-job": job.id,
      "data-key": `mark-${job.id}`,
      "aria-label": told,
    },
    svg("title", {}, told),
    ...shapes,
  );
}

/**
 * @param {string} label
 * @param {string} key
 * @param {CompareColumn[]} columns
 * @param {CompareColumn | undefined} chosen
 * @param {CompareTools["change"]} change
 */
function select(label, key, columns, chosen, change) {
  return h(
    "label",
    { class: "ns-tool" },
    label,
    h(
      "select",
      {
        class: "form-select form-select-sm",
        "aria-label": label,
        "data-key": `axis-${key}`,
        onchange: (event) => change({ [key]: event.target.value }),
      },
      columns.map((column) => h("option", { value: column.key, selected: column.key === chosen?.key }, column.label)),
    ),
  );
}

/**
 * Return the columns that can be axes, and the default settings and figures among them.
 * @param {CompareColumn[]} columns
 */
export function axesOf(columns) {
  const usable = columns.filter(
    (column) =>
      column.values.some((value) => value !== null && value !== undefined) && !["name", "state"].includes(column.key),
  );
  const settings = usable.filter(
    (column) => column.group === "settings" && column.differs && !column.key.startsWith("tag."),
  );
  const figures = usable.filter((column) => column.group === "results" && column.numeric && !settings.includes(column));
  return { usable, settings, figures };
}

/**
 * @param {Element} box
 * @param {Element} tools
 * @param {ComparedJob[]} jobs
 * @param {CompareColumn[]} columns
 * @param {View} view
 * @param {CompareTools} compared
 */
export function drawScatter(box, tools, jobs, columns, view, { change, mark: color }) {
  const { usable, settings, figures } = axesOf(columns);
  /** @type {(key: string | undefined, fallback: CompareColumn | undefined) => CompareColumn | undefined} */
  const pick = (key, fallback) => usable.find((column) => column.key === key) || fallback;
  const numbers = settings.filter((column) => column.numeric);
  const [x, y] = [
    pick(view.x, numbers[0] || settings[0] || figures[1] || usable[0]),
    pick(view.y, figures[0] || usable[0]),
  ];
  fill(
    tools,
    select("X axis", "x", usable, x, change),
    select(
      "Y axis",
      "y",
      usable.filter((column) => column.numeric),
      y,
      change,
    ),
  );
  if (!x || !y) return fill(box, h("p", { class: "ns-none ns-muted" }, "There is nothing to compare yet."));
  const frame = scatterFrame(widthOf(box), x, y);
  const points = jobs.flatMap((job, place) => {
    const at = frame.at(x.values[place], y.values[place]);
    if (!at) return [];
    const told = `${short(job)}: ${x.label} ${x.text(x.values[place])}, ${y.label} ${y.text(y.values[place])}`;
    return [
      mark(
        job,
        told,
        svg("circle", { class: "ns-reach", ...at, r: 14 }),
        svg("circle", { class: "ns-point", ...at, r: 6, fill: color(place) }),
      ),
    ];
  });
  const label = `${y.label} against ${x.label}, ${points.length} jobs`;
  fill(box, figure(frame.width, HEIGHT, label, [frame.axes, points]));
  oneStop(box);
}

/** Height of a chart, in pixels. */
export const HEIGHT = 340;
const MARGIN = { left: 76, right: 20, top: 12, bottom: 48 };
const MIDDLE = { "text-anchor": "middle" };

/**
 * @param {number} width
 * @param {number} height
 * @param {string} label
 * @param {Child[]} content
 */
export const figure = (width, height, label, content) =>
  svg(
    "svg",
    { class: "ns-figure", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label },
    content,
  );

/**
 * Return the axes of a scatter chart and a function that places two values.
 * @param {number} width
 * @param {CompareColumn} x
 * @param {CompareColumn} y
 * @param {boolean} mayBeLog Whether the x axis is logarithmic where its values span powers of ten.
 */
export function scatterFrame(width, x, y, mayBeLog = true) {
  const { left, right, top, bottom } = MARGIN;
  const across = scaleOf(x, { log: mayBeLog && isWide(x), pad: 0.05 });
  const up = scaleOf(y, { log: isWide(y), pad: 0.05 });
  /** @param {number} share */
  const atX = (share) => left + share * (width - left - right);
  /** @param {number} share */
  const atY = (share) => HEIGHT - bottom - share * (HEIGHT - top - bottom);
  /** @type {(one: unknown, other: unknown) => { cx: number, cy: number } | null} */
  const at = (one, other) => {
    const [here, there] = [across.at(one), up.at(other)];
    return here === null || there === null ? null : { cx: atX(here), cy: atY(there) };
  };
  const named = { ...MIDDLE, class: "ns-axis-name" };
  const axes = [
    up.ticks.map((tick) => [
      line(left, atY(tick.at), width - right, atY(tick.at), "ns-grid"),
      text(left - 8, atY(tick.at) + 4, tick.label, { "text-anchor": "end" }),
    ]),
    across.ticks.map((tick) => [
      line(atX(tick.at), top, atX(tick.at), HEIGHT - bottom, "ns-grid"),
      text(atX(tick.at), HEIGHT - bottom + 18, tick.label, MIDDLE),
    ]),
    text(atX(0.5), HEIGHT - 8, `${x.label}${across.log ? " (logarithmic)" : ""}`, named),
    text(-atY(0.5), 14, `${y.label}${up.log ? " (log)" : ""}`, { ...named, transform: "rotate(-90)" }),
  ];
  return { width, at, axes };
}

/** Settings that are axes by default. */
const FIRST_AXES = 6;

/**
 * @param {CompareColumn[]} columns
 * @param {View} view
 */
export function chosenAxes(columns, view) {
  const { usable, settings, figures } = axesOf(columns);
  const asked = (view.axes || "")
    .split(",")
    .filter(Boolean)
    .flatMap((key) => usable.find((column) => column.key === key) ?? []);
  return asked.length ? asked : [...settings.slice(0, FIRST_AXES), ...figures.slice(0, 1)];
}

/**
 * @param {Element} box
 * @param {ComparedJob[]} jobs
 * @param {CompareColumn[]} columns
 * @param {View} view
 */
export function drawParallel(box, jobs, columns, view) {
  const axes = chosenAxes(columns, view);
  if (axes.length < 2)
    return fill(
      box,
      h("p", { class: "ns-none ns-muted" }, "Select at least two axes: these jobs have the same settings."),
    );
  const frame = parallelFrame(Math.max(widthOf(box), axes.length * 105), axes);
  const lines = jobs
    .map((job, place) => strandOf(job, place, axes, frame))
    .sort((a, b) => a.good - b.good)
    .map(({ strand }) => strand); // the best above the others
  const label = `${jobs.length} jobs over ${axes.map((axis) => axis.label).join(", ")}`;
  fill(box, figure(frame.width, HEIGHT, label, [lines, frame.axes]));
  oneStop(box);
}

/** Margins of a parallel chart, in pixels. */
const ROOM = { top: 40, bottom: 20, side: 70 };
/** Most labels of an axis. */
const MOST_LABELS = 8;

/**
 * Return the axes of a parallel chart and functions that place a job's values.
 * @param {number} width
 * @param {CompareColumn[]} columns
 */
function parallelFrame(width, columns) {
  const scales = columns.map((column) => scaleOf(column, { log: isWide(column) }));
  /** @param {number} axis */
  const atX = (axis) => ROOM.side + (axis * (width - 2 * ROOM.side)) / (columns.length - 1);
  /** @param {number} share */
  const atY = (share) => HEIGHT - ROOM.bottom - share * (HEIGHT - ROOM.top - ROOM.bottom);
  const axes = columns.map((column, axis) => [
    line(atX(axis), ROOM.top, atX(axis), HEIGHT - ROOM.bottom),
    text(atX(axis), 18, column.label.replace(/^.*\./, "").slice(0, 18), { ...MIDDLE, class: "ns-axis-name" }),
    scales[axis].ticks
      .filter((_, place, all) => place % Math.ceil(all.length / MOST_LABELS) === 0)
      .map((tick) => text(atX(axis) + 6, atY(tick.at) + 4, tick.label, { class: "ns-tick" })),
  ]);
  /** @param {number} place */
  const shares = (place) => columns.map((column, axis) => scales[axis].at(column.values[place]));
  return { width, axes, shares, atX, atY };
}

/**
 * Return the line of a job and its rank on the last axis (0 to 1, best last; -1: unknown).
 * @param {ComparedJob} job
 * @param {number} place
 * @param {CompareColumn[]} columns
 * @param {ReturnType<typeof parallelFrame>} frame
 */
function strandOf(job, place, columns, { shares, atX, atY }) {
  const values = shares(place);
  const points = values
    .flatMap((share, axis) => (share === null ? [] : [`${atX(axis).toFixed(1)},${atY(share).toFixed(1)}`]))
    .join(" ");
  const told = columns.map((column) => `${column.label} ${column.text(column.values[place])}`).join(", ");
  const share = values[values.length - 1];
  const good = columns[columns.length - 1].sense === "min" && share !== null ? 1 - share : share;
  const shapes = [
    svg("polyline", { class: "ns-reach", points }),
    svg("polyline", { class: "ns-strand", points, style: { stroke: shade(good) } }),
  ];
  return { good: good ?? -1, strand: mark(job, `${short(job)}: ${told}`, ...shapes) };
}

/**
 * Return the color for a rank from 0 (worst) to 1 (best); gray if unknown.
 * @param {number | null | undefined} share
 */
const shade = (share) =>
  share === null || share === undefined
    ? "var(--flower-text-muted)"
    : `color-mix(in oklab, var(--ns-running) ${Math.round(100 * share)}%, var(--ns-paused))`;
