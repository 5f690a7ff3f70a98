// The list of sweeps: state, trials, and the best value.

import { byId, fill, h, pageData } from "./dom.js";
import { measure, metricName } from "./figures.js";
import { empty, stateBadge } from "./parts.js";
import { work } from "./schedule_parts.js";
import { ago, getJson, live, url } from "./site.js";
import { trialsBar } from "./sweep_parts.js";
import { drawTable } from "./table.js";

/** @type {Column<SweepRow>[]} */
const COLUMNS = [
  {
    label: "Sweep",
    class: "ns-wide",
    cell: (sweep) => [
      h(
        "a",
        { class: "ns-name", href: url(`/sweeps/${sweep.id}`), "data-key": sweep.id },
        sweep.name || sweep.id.slice(0, 8),
      ),
      h("span", { class: "ns-sub" }, work(sweep.job)),
    ],
  },
  { label: "State", cell: (sweep) => stateBadge(sweep.state) },
  { label: "Trials", class: "ns-nowrap", cell: trialsBar },
  {
    label: "Best",
    class: "ns-nowrap",
    cell: ({ best_value: best, objective }) => [
      best === null ? h("span", { class: "ns-muted" }, "–") : measure(objective.metric, best),
      h("span", { class: "ns-sub" }, metricName(objective.metric)),
    ],
  },
  {
    label: "Search",
    class: "ns-nowrap",
    cell: ({ sampler, pruner }) => [
      sampler,
      h("span", { class: "ns-sub" }, pruner.name === "none" ? "no pruning" : pruner.name),
    ],
  },
  { label: "Owner", cell: (sweep) => sweep.who },
  { label: "Submitted", class: "ns-nowrap", cell: (sweep) => ago(sweep.created_at) },
];

let drawn = "";
/** @param {{ sweeps: SweepRow[] }} answer */
function draw({ sweeps }) {
  const text = JSON.stringify(sweeps);
  if (text === drawn) return;
  drawn = text;
  byId("sweeps-card").hidden = !sweeps.length;
  drawTable(byId("sweeps-table"), COLUMNS, sweeps, { key: (sweep) => sweep.id });
  fill(
    byId("sweeps-empty"),
    sweeps.length
      ? null
      : empty(
          "No sweep yet",
          "Let forty trials find the settings of a job:",
          h("code", {}, "nightshift sweep submit -f sweep.json"),
        ),
  );
}

draw(pageData());
live(async (signal) => draw(await getJson("/sweeps/-/data", signal)), 3);
