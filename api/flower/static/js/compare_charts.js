// A scatter chart and parallel coordinates, in SVG: every job can be pointed at, touched, or reached with the keyboard.

import { fill, h, svg } from "./dom.js";
import { isWide, scaleOf, short } from "./compare_values.js";
import { url } from "./site.js";

/** As wide as there is room, in pixels of its own, so that words are as large as elsewhere; narrower it scrolls. */
const widthOf = (box) => Math.max(560, box.clientWidth);
const line = (x1, y1, x2, y2, name = "ns-axis") => svg("line", { class: name, x1, y1, x2, y2 });
const text = (x, y, words, attributes = {}) => svg("text", { x, y, ...attributes }, words.length > 44 ? `${words.slice(0, 43)}…` : words);

/** One stop for Tab per chart; arrow keys go from job to job, Home and End to the first and last. */
export function walkable(box) {
  box.addEventListener("keydown", (event) => {
    const marks = [...box.querySelectorAll(".ns-mark")];
    const here = marks.indexOf(document.activeElement);
    const next = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: marks.length - 1 }[event.key];
    if (here < 0 || next === undefined) return;
    event.preventDefault();
    const mark_ = marks[Math.min(marks.length - 1, Math.max(0, next))];
    for (const one of marks) one.setAttribute("tabindex", one === mark_ ? 0 : -1);
    mark_.focus();
  });
}

const oneStop = (box) => box.querySelectorAll(".ns-mark").forEach((one, place) => one.setAttribute("tabindex", place ? -1 : 0));

/** A group that stands for one job: a link, named by what `told` says. */
function mark(job, told, ...shapes) {
  return svg("a", { class: "ns-mark", href: url(`/jobs/${job.id}`), "data-job": job.id, "data-key": `mark-${job.id}`, "aria-label": told }, svg("title", {}, told), ...shapes);
}

function select(label, key, columns, chosen, change) {
  return h("label", { class: "ns-tool" }, label, h("select", { class: "form-select form-select-sm", "aria-label": label, "data-key": `axis-${key}`, onchange: (event) => change({ [key]: event.target.value }) },
    columns.map((column) => h("option", { value: column.key, selected: column.key === chosen?.key }, column.label))));
}

/** What can be an axis, and the columns that an address (or nobody) chose. */
export function axesOf(columns) {
  const usable = columns.filter((column) => column.values.some((value) => value !== null && value !== undefined) && !["name", "state"].includes(column.key));
  const settings = usable.filter((column) => column.group === "settings" && column.differs && !column.key.startsWith("tag."));
  const figures = usable.filter((column) => column.group === "results" && column.numeric && !settings.includes(column));
  return { usable, settings, figures };
}

export function drawScatter(box, tools, jobs, columns, view, { change, colour }) {
  const { usable, settings, figures } = axesOf(columns);
  const pick = (key, fallback) => usable.find((column) => column.key === key) || fallback;
  const numbers = settings.filter((column) => column.numeric);
  const [x, y] = [pick(view.x, numbers[0] || settings[0] || figures[1] || usable[0]), pick(view.y, figures[0] || usable[0])];
  fill(tools, select("Across", "x", usable, x, change), select("Up", "y", usable.filter((column) => column.numeric), y, change));
  if (!x || !y) return fill(box, h("p", { class: "ns-none ns-muted" }, "There is nothing to compare yet."));
  const [width, height, left, right, top, bottom] = [widthOf(box), 340, 76, 20, 12, 48];
  const [across, up] = [x, y].map((column) => scaleOf(column, { log: isWide(column), pad: 0.05 }));
  const [atX, atY] = [(share) => left + share * (width - left - right), (share) => height - bottom - share * (height - top - bottom)];
  const points = jobs.flatMap((job, place) => {
    const [here, there] = [across.at(x.values[place]), up.at(y.values[place])];
    if (here === null || there === null) return [];
    const told = `${short(job)}: ${x.label} ${x.text(x.values[place])}, ${y.label} ${y.text(y.values[place])}`;
    return [mark(job, told, svg("circle", { class: "ns-reach", cx: atX(here), cy: atY(there), r: 14 }), svg("circle", { class: "ns-point", cx: atX(here), cy: atY(there), r: 6, fill: colour(place) }))];
  });
  fill(box, svg("svg", { class: "ns-figure", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${y.label} against ${x.label}, ${points.length} jobs` },
    up.ticks.map((tick) => [line(left, atY(tick.at), width - right, atY(tick.at), "ns-grid"), text(left - 8, atY(tick.at) + 4, tick.label, { "text-anchor": "end" })]),
    across.ticks.map((tick) => [line(atX(tick.at), top, atX(tick.at), height - bottom, "ns-grid"), text(atX(tick.at), height - bottom + 18, tick.label, { "text-anchor": "middle" })]),
    text(left + (width - left - right) / 2, height - 8, `${x.label}${across.log ? " (logarithmic)" : ""}`, { "text-anchor": "middle", class: "ns-axis-name" }),
    text(-(top + (height - top - bottom) / 2), 14, `${y.label}${up.log ? " (log)" : ""}`, { "text-anchor": "middle", class: "ns-axis-name", transform: "rotate(-90)" }),
    points));
  oneStop(box);
}

/** Of the axes, as many as fit are shown at first. */
const FIRST_AXES = 6;

export function chosenAxes(columns, view) {
  const { usable, settings, figures } = axesOf(columns);
  const asked = (view.axes || "").split(",").filter(Boolean).map((key) => usable.find((column) => column.key === key)).filter(Boolean);
  return asked.length ? asked : [...settings.slice(0, FIRST_AXES), ...figures.slice(0, 1)];
}

export function drawParallel(box, jobs, columns, view) {
  const axes = chosenAxes(columns, view);
  if (axes.length < 2) return fill(box, h("p", { class: "ns-none ns-muted" }, "Choose two axes or more: these jobs were given the same settings."));
  const [width, height, top, bottom] = [Math.max(widthOf(box), axes.length * 105), 340, 40, 20];
  const scales = axes.map((axis) => scaleOf(axis, { log: isWide(axis) }));
  const atX = (place) => 70 + (place * (width - 140)) / (axes.length - 1);
  const atY = (share) => height - bottom - share * (height - top - bottom);
  const last = axes.at(-1);
  const lines = jobs.map((job, place) => {
    const shares = axes.map((axis, number) => scales[number].at(axis.values[place]));
    const points = shares.flatMap((share, number) => (share === null ? [] : [`${atX(number).toFixed(1)},${atY(share).toFixed(1)}`])).join(" ");
    const told = `${short(job)}: ${axes.map((axis) => `${axis.label} ${axis.text(axis.values[place])}`).join(", ")}`;
    const good = last.sense === "min" && shares.at(-1) !== null ? 1 - shares.at(-1) : shares.at(-1);
    return { good: good ?? -1, strand: mark(job, told, svg("polyline", { class: "ns-reach", points }), svg("polyline", { class: "ns-strand", points, style: { stroke: shade(good) } })) };
  }).sort((a, b) => a.good - b.good).map(({ strand }) => strand);  // the best above the others
  fill(box, svg("svg", { class: "ns-figure", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${jobs.length} jobs over ${axes.map((axis) => axis.label).join(", ")}` },
    lines,
    axes.map((axis, number) => [
      line(atX(number), top, atX(number), height - bottom),
      text(atX(number), 18, axis.label.replace(/^.*\./, "").slice(0, 18), { "text-anchor": "middle", class: "ns-axis-name" }),
      scales[number].ticks.filter((_, place, all) => all.length <= 8 || place % Math.ceil(all.length / 8) === 0).map((tick) => text(atX(number) + 6, atY(tick.at) + 4, tick.label, { class: "ns-tick" })),
    ])));
  oneStop(box);
}

/** From bad (0) to good (1) on the last axis; grey where it is not known. */
const shade = (share) => (share === null || share === undefined ? "var(--flower-text-muted)" : `color-mix(in oklab, var(--ns-running) ${Math.round(100 * share)}%, var(--ns-paused))`);
