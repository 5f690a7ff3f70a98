// The dialog that creates or changes a schedule; it previews the next runs.

import { backButton, labelled, openDialog } from "./dialog.js";
import { entries, fill, h } from "./dom.js";
import { utc, wallClock } from "./schedule_parts.js";
import { getJson, post, said, toast } from "./site.js";

/** @type {[string, string][]} */
const OVERLAP = [
  ["skip", "Skip the tick"],
  ["queue", "Wait for the job"],
  ["cancel_running", "Cancel the job"],
];
/** @type {[string, string][]} */
const CATCH_UP = [
  ["latest", "Run the newest"],
  ["all", "Run all"],
  ["none", "Skip"],
];
/** Milliseconds without a key before the preview is requested. */
const PAUSE = 250;

const zones = () => {
  try {
    return Intl.supportedValuesOf("timeZone");
  } catch {
    return [];
  }
};

/**
 * @param {string} name
 * @param {string} value
 * @param {Attributes} more
 */
const text = (name, value, more = {}) =>
  h("input", {
    class: "form-control",
    id: `schedule-${name}`,
    name,
    value,
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    ...more,
  });

/**
 * @param {string} name
 * @param {[string, string][]} options
 * @param {string} value
 */
const choice = (name, options, value) =>
  h(
    "select",
    { class: "form-select", id: `schedule-${name}`, name },
    options.map(([option, label]) => h("option", { value: option, selected: option === value }, label)),
  );

/** @param {LocalTime[]} times */
const timeList = (times) =>
  h(
    "ol",
    { class: "ns-changes ns-times" },
    times.map((time) =>
      h(
        "li",
        {},
        h("span", { class: "ns-change" }, wallClock(time.local)),
        h("span", { class: "ns-muted" }, utc(time.utc)),
      ),
    ),
  );

/**
 * Request the next runs after a pause in typing; only the newest answer is shown.
 * @param {Element} box
 * @param {HTMLFormElement} form
 * @param {(good: boolean) => void} ready
 */
function preview(box, form, ready) {
  let [timer, turn] = [0, 0];
  async function look() {
    turn += 1;
    const mine = turn;
    const { cron = "", timezone = "" } = entries(form);
    /** @type {{ times?: LocalTime[], error?: string }} */
    const found = await getJson(`/schedules/-/preview?${new URLSearchParams({ cron, timezone })}`).catch((error) => ({
      error: said(error),
    }));
    if (mine !== turn) return;
    ready(!found.error);
    fill(box, found.error ? h("p", { class: "ns-form-error" }, found.error) : timeList(found.times ?? []));
  }
  form.addEventListener("input", ({ target }) => {
    if (!(target instanceof HTMLInputElement && ["cron", "timezone"].includes(target.name))) return;
    ready(false);
    clearTimeout(timer);
    timer = window.setTimeout(look, PAUSE);
  });
  look();
}

/**
 * Return the fields for times and rules.
 * @param {Partial<Schedule>} schedule
 * @param {Element} times
 */
function fields({ name = "", cron = "0 2 * * *", timezone, overlap = "skip", catch_up: catchUp = "latest" }, times) {
  const zone = timezone || Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  return [
    labelled("Name", text("name", name, { maxlength: 100, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*" })),
    labelled("When", text("cron", cron, { maxlength: 100 }), "minute hour day-of-month month day-of-week"),
    labelled("Time zone", text("timezone", zone, { maxlength: 64, list: "schedule-zones" })),
    h(
      "datalist",
      { id: "schedule-zones" },
      zones().map((one) => h("option", { value: one })),
    ),
    h("div", { class: "ns-field" }, h("strong", {}, "Next runs"), times),
    labelled("If the previous job is unfinished", choice("overlap", OVERLAP, overlap)),
    labelled("Missed ticks", choice("catch_up", CATCH_UP, catchUp)),
  ];
}

/** @param {string} from */
const jobField = (from) => [
  h("p", {}, "It submits a copy of an existing job at the given times."),
  labelled("Job", text("job", from, { pattern: "[0-9a-f]{4,16}", maxlength: 16 }), "Job id or its first characters"),
];

/**
 * Change `schedule`, or create one from the job with the id `from`.
 * @param {Schedule | null} schedule
 * @param {string} from
 * @returns {Promise<{ message: string, name: string } | null>} the server's answer, or null
 */
export function scheduleDialog(schedule, from = "") {
  const times = h("div", { class: "ns-preview", "aria-live": "polite" });
  const error = h("p", { class: "ns-form-error", role: "alert", hidden: true });
  const save = h("button", { class: "btn btn-primary", type: "submit", disabled: true }, schedule ? "Save" : "Create");
  const form = h(
    "form",
    {},
    h("h2", { id: "ns-question" }, schedule ? `Change ${schedule.name}` : "New schedule"),
    schedule ? null : jobField(from),
    fields(schedule ?? {}, times),
    error,
    h("div", { class: "ns-buttons" }, backButton(), save),
  );
  const path = schedule ? `/schedules/${schedule.id}/change` : "/schedules/-/add";
  /** @type {{ message: string, name: string } | null} */
  let answer = null;
  return new Promise((resolve) => {
    const dialog = openDialog(form, { class: "ns-dialog-tall", done: () => resolve(answer) });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      save.disabled = true;
      try {
        answer = await post(path, entries(form));
        toast(answer?.message ?? "");
        dialog.close();
      } catch (problem) {
        [error.textContent, error.hidden, save.disabled] = [said(problem), false, false];
      }
    });
    preview(times, form, (good) => {
      save.disabled = !good;
    });
    document.getElementById(`schedule-${schedule ? "cron" : from ? "name" : "job"}`)?.focus();
  });
}
