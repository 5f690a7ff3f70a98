// The dialog that makes a schedule, or changes when one comes; it shows the next times while its fields are filled in.

import { fill, h } from "./dom.js";
import { wallClock, utc } from "./schedule_parts.js";
import { getJson, post, toast } from "./site.js";

const OVERLAP = [["skip", "Skip the tick"], ["queue", "Wait for it"], ["cancel_running", "Cancel it"]];
const CATCH_UP = [["latest", "Make up for the newest"], ["all", "Make up for all"], ["none", "Let them go"]];
const zones = () => { try { return Intl.supportedValuesOf("timeZone"); } catch { return []; } };

function field(label, input, hint = null) {
  return h("div", { class: "ns-field" }, h("label", { for: input.id }, label), input, hint && h("span", { class: "ns-sub" }, hint));
}

const text = (name, value, more = {}) => h("input", { class: "form-control", id: `schedule-${name}`, name, value, required: true, autocomplete: "off", spellcheck: "false", ...more });
const choice = (name, options, value) => h("select", { class: "form-select", id: `schedule-${name}`, name }, options.map(([option, label]) => h("option", { value: option, selected: option === value }, label)));

/** Ask for the next times a moment after the last key; only the newest answer is shown. */
function preview(box, form, ready) {
  let [timer, turn] = [null, 0];
  async function look() {
    const mine = (turn += 1);
    const { cron, timezone } = form.elements;
    const query = new URLSearchParams({ cron: cron.value, timezone: timezone.value });
    let found;
    try { found = await getJson(`/schedules/-/preview?${query}`); } catch (error) { found = { error: error.message }; }
    if (mine !== turn) return;
    ready(!found.error);
    fill(box, found.error
      ? h("p", { class: "ns-form-error" }, found.error)
      : h("ol", { class: "ns-changes ns-times" }, found.times.map((time) => h("li", {}, h("span", { class: "ns-change" }, wallClock(time.local)), h("span", { class: "ns-muted" }, utc(time.utc))))));
  }
  form.addEventListener("input", ({ target }) => { if (["cron", "timezone"].includes(target.name)) { ready(false); clearTimeout(timer); timer = setTimeout(look, 250); } });
  look();
}

/**
 * Change `schedule`, or make a new one of the job `from` (its id, which may be asked for). Resolves to the server's answer,
 * or null.
 */
export function scheduleDialog(schedule, from = "") {
  return new Promise((resolve) => {
    const zone = schedule?.timezone || Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
    const [box, error] = [h("div", { class: "ns-preview", "aria-live": "polite" }), h("p", { class: "ns-form-error", role: "alert", hidden: true })];
    const save = h("button", { class: "btn btn-primary", type: "submit", disabled: true }, schedule ? "Save" : "Make it");
    const close = (value) => { dialog.remove(); resolve(value); };
    const form = h("form", { method: "dialog" },
      h("h2", { id: "ns-question" }, schedule ? `Change ${schedule.name}` : "A new schedule"),
      schedule ? null : h("p", {}, "It submits what an existing job was told to do, again and again."),
      schedule ? null : field("Job", text("job", from, { pattern: "[0-9a-f]{4,16}", maxlength: 16 }), "The id of a job, or the beginning of it"),
      field("Name", text("name", schedule?.name || "", { maxlength: 100, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*" })),
      field("When", text("cron", schedule?.cron || "0 2 * * *", { maxlength: 100 }), "minute hour day-of-month month day-of-week"),
      field("Time zone", text("timezone", zone, { maxlength: 64, list: "schedule-zones" })), h("datalist", { id: "schedule-zones" }, zones().map((one) => h("option", { value: one }))),
      h("div", { class: "ns-field" }, h("strong", {}, "Next times"), box),
      field("While a job of it is not done", choice("overlap", OVERLAP, schedule?.overlap || "skip")),
      field("Ticks missed while nothing ran", choice("catch_up", CATCH_UP, schedule?.catch_up || "latest")),
      error,
      h("div", { class: "ns-buttons" }, h("button", { class: "btn btn-outline-secondary", type: "button", onclick: () => close(null) }, "Go back"), save));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const body = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
      save.disabled = true;
      try {
        const answer = await post(schedule ? `/schedules/${schedule.id}/change` : "/schedules/-/add", body);
        toast(answer.message);
        close(answer);
      } catch (problem) {
        [error.textContent, error.hidden, save.disabled] = [problem.message, false, false];
      }
    });
    const dialog = h("dialog", { class: "ns-dialog ns-dialog-tall", "aria-labelledby": "ns-question" }, form);
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(null); });
    document.body.append(dialog);
    preview(box, form, (good) => { save.disabled = !good; });
    dialog.showModal();
    form.elements[schedule ? "cron" : from ? "name" : "job"].focus();
  });
}
