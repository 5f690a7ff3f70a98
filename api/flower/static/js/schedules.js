// The list of schedules: next runs and recent ticks.

import { byId, fill, h, pageData } from "./dom.js";
import { empty } from "./parts.js";
import { scheduleDialog } from "./schedule_dialog.js";
import { buttons, stateOf, strip, wallClock, work } from "./schedule_parts.js";
import { ago, config, getJson, live, url } from "./site.js";
import { drawTable } from "./table.js";

/** @param {ScheduleRow} schedule */
const nextCell = (schedule) =>
  schedule.next_at
    ? [ago(schedule.next_at), h("span", { class: "ns-sub" }, wallClock(schedule.next_at_local))]
    : h("span", { class: "ns-muted" }, "paused");

/** @type {Column<ScheduleRow>[]} */
const COLUMNS = [
  {
    label: "Schedule",
    class: "ns-wide",
    cell: (schedule) => [
      h("a", { class: "ns-name", href: url(`/schedules/${schedule.id}`), "data-key": schedule.id }, schedule.name),
      h("span", { class: "ns-sub" }, work(schedule.job)),
    ],
  },
  { label: "State", cell: stateOf },
  {
    label: "When",
    class: "ns-nowrap",
    cell: (schedule) => [
      h("code", { class: "ns-cron" }, schedule.cron),
      h("span", { class: "ns-sub" }, schedule.timezone),
    ],
  },
  { label: "Next", class: "ns-nowrap", cell: nextCell },
  { label: "Last ticks", class: "ns-nowrap", cell: (schedule) => strip(schedule.ticks) },
  { label: "Owner", cell: (schedule) => schedule.who },
  ...(config.readOnly
    ? []
    : [
        {
          label: "",
          head: h("span", { class: "visually-hidden" }, "Actions"),
          cell: (/** @type {ScheduleRow} */ schedule) => buttons(schedule, () => updates.now()),
        },
      ]),
];

let drawn = "";
/** @param {{ schedules: ScheduleRow[] }} answer */
function draw({ schedules }) {
  const text = JSON.stringify(schedules);
  if (text === drawn) return;
  drawn = text;
  byId("schedules-card").hidden = !schedules.length;
  drawTable(byId("schedules-table"), COLUMNS, schedules, { key: (schedule) => schedule.id });
  fill(
    byId("schedules-empty"),
    schedules.length
      ? null
      : empty(
          "No schedule yet",
          "Train every night at two, in your own time zone:",
          h("code", {}, "nightshift schedules add nightly --cron '0 2 * * *' --tz Europe/Berlin -f job.json"),
        ),
  );
}

async function add(from = "") {
  const made = await scheduleDialog(null, from);
  if (made) location.href = url(`/schedules/${made.name}`);
}

draw(pageData());
const updates = live(async (signal) => draw(await getJson("/schedules/-/data", signal)), 3);

if (!config.readOnly) {
  fill(
    byId("schedules-actions"),
    h("button", { class: "btn btn-primary", type: "button", onclick: () => add() }, "New schedule"),
  );
  // The page of a job links here with `?of=<job>`.
  const of = new URLSearchParams(location.search).get("of");
  if (of) add(of.slice(0, 16));
}
