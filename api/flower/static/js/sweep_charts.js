// The charts of a sweep: progress over the trials, slices, parallel coordinates, importance.

import { drawParallel, drawScatter, figure, HEIGHT, mark, oneStop, scatterFrame, widthOf } from "./compare_charts.js";
import { columnsOf } from "./compare_values.js";
import { fill, h, svg } from "./dom.js";
import { measure, metricName } from "./figures.js";

/**
 * Return the trials with a value as jobs that can be compared, and the columns of their parameters and objective.
 * @param {Sweep} sweep
 * @param {Trial[]} trials
 */
export function compared(sweep, trials) {
  const { metric, direction } = sweep.objective;
  const measured = trials.filter((trial) => trial.value !== null && trial.job_id);
  const jobs = measured.map((trial) => asJob(sweep, trial));
  const columns = columnsOf(jobs, { [metric]: direction }).filter(
    ({ key, group }) => key === metric || (group === "settings" && key in sweep.space),
  );
  return { measured, jobs, columns };
}

/**
 * @param {Sweep} sweep
 * @param {Trial} trial
 * @returns {any}
 */
const asJob = (sweep, trial) => ({
  id: trial.job_id,
  name: `trial ${trial.number}`,
  kind: sweep.job.kind,
  dataset: null,
  state: trial.state,
  started_at: null,
  results: { [sweep.objective.metric]: trial.value },
  best: {},
  settings: trial.params,
  tags: {},
});

/** @param {Trial} trial */
const colorOf = (trial) => (trial.state === "pruned" ? "var(--ns-paused)" : "var(--ns-running)");

/**
 * Draw the objective of every trial, and the best so far as a line.
 * @param {Element} box
 * @param {Sweep} sweep
 * @param {ReturnType<typeof compared>} found
 */
export function drawProgress(box, sweep, { measured, jobs, columns }) {
  const { metric, direction } = sweep.objective;
  const up = columns.find(({ key }) => key === metric);
  if (!up || measured.length < 2)
    return fill(box, h("p", { class: "ns-none ns-muted" }, "No two trials have a value yet."));
  /** @type {CompareColumn} */
  const across = {
    ...up,
    key: "trial",
    label: "trial",
    values: measured.map((trial) => trial.number),
    sense: null,
    text: (value) => String(Math.round(value)),
  };
  const frame = scatterFrame(widthOf(box), across, { ...up, label: metricName(metric) }, false);
  const points = measured.flatMap((trial, place) => {
    const at = frame.at(trial.number, trial.value);
    if (!at) return [];
    const value = `${metricName(metric)} ${measure(metric, Number(trial.value))}`;
    const told = `Trial ${trial.number}: ${value}${trial.state === "pruned" ? ", pruned" : ""}`;
    return [
      mark(
        jobs[place],
        told,
        svg("circle", { class: "ns-reach", ...at, r: 14 }),
        svg("circle", { class: "ns-point", ...at, r: 5, fill: colorOf(trial) }),
      ),
    ];
  });
  const label = `${metricName(metric)} of ${measured.length} trials, and the best so far`;
  fill(box, figure(frame.width, HEIGHT, label, [frame.axes, bestLine(measured, direction, frame.at), points]));
  oneStop(box);
}

/**
 * @param {Trial[]} measured
 * @param {"max" | "min"} direction
 * @param {(one: unknown, other: unknown) => { cx: number, cy: number } | null} at
 */
function bestLine(measured, direction, at) {
  /** @type {string[]} */
  const corners = [];
  let best = Number(measured[0].value);
  let height = 0;
  for (const trial of measured) {
    const value = Number(trial.value);
    best = direction === "max" ? Math.max(best, value) : Math.min(best, value);
    const place = at(trial.number, best);
    if (!place) continue;
    if (corners.length) corners.push(`${place.cx},${height}`);
    corners.push(`${place.cx},${place.cy}`);
    height = place.cy;
  }
  return svg("polyline", { class: "ns-best-line", points: corners.join(" ") });
}

/**
 * Draw the objective against one parameter, and all parameters as parallel coordinates.
 * @param {{ slice: Element, tools: Element, parallel: Element }} boxes
 * @param {Sweep} sweep
 * @param {ReturnType<typeof compared>} found
 * @param {View} view
 * @param {(changes: Record<string, string | null>) => void} change
 */
export function drawSpace(boxes, sweep, { measured, jobs, columns }, view, change) {
  const { metric } = sweep.objective;
  const important = Object.entries(sweep.importance ?? {}).sort((a, b) => b[1] - a[1]);
  const first = important[0]?.[0] ?? columns.find(({ key }) => key !== metric)?.key;
  drawScatter(
    boxes.slice,
    boxes.tools,
    jobs,
    columns,
    { x: first, y: metric, ...view },
    {
      change,
      mark: (place) => colorOf(measured[place]),
    },
  );
  const axes = [...columns.filter(({ key }) => key !== metric).map(({ key }) => key), metric].join(",");
  drawParallel(boxes.parallel, jobs, columns, { axes });
}

/**
 * Draw the share of each parameter in the differences of the objective.
 * @param {Element} box
 * @param {Sweep} sweep
 */
export function drawImportance(box, sweep) {
  const shares = Object.entries(sweep.importance ?? {}).sort((a, b) => b[1] - a[1]);
  if (!shares.length) return fill(box, h("p", { class: "ns-muted" }, "Known when at least eight trials are complete."));
  fill(
    box,
    h(
      "dl",
      { class: "ns-shares" },
      shares.map(([path, share]) => [
        h("dt", {}, path),
        h(
          "dd",
          {},
          h("span", { class: "ns-share", style: { width: `${(100 * share) / shares[0][1]}%` }, "aria-hidden": "true" }),
          h("span", {}, `${Math.round(100 * share)}%`),
        ),
      ]),
    ),
  );
}
