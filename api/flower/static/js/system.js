// Resource use and environment of a job.

import { Charts, color } from "./charts.js";
import { byId, fill, h, patch } from "./dom.js";
import { getJson } from "./site.js";

/** @type {Record<string, string>} */
const NAMES = {
  cpu_percent: "CPU (% of a core)",
  memory_bytes: "memory",
  gpu_percent: "GPU (%)",
  gpu_memory_bytes: "GPU memory",
};
const SECONDS = 10;

/**
 * Draw charts of resource use while the section is open, until `ended`.
 * @param {string} id
 * @param {() => number} from
 * @param {() => boolean} ended
 */
export function followSystem(id, from, ended) {
  const section = /** @type {HTMLDetailsElement} */ (byId("system"));
  const charts = new Charts(byId("system-charts"), "time");
  let timer = 0;
  async function load() {
    clearTimeout(timer);
    if (!section.open || document.hidden) return;
    try {
      draw((await getJson(`/jobs/${id}/system`)).samples);
    } catch {
      /* the page itself says that the connection is lost */
    }
    if (!ended()) timer = window.setTimeout(load, SECONDS * 1000);
  }
  /** @param {Sample[]} samples */
  function draw(samples) {
    const began = from();
    const names = Object.keys(NAMES).filter((name) => samples.some((sample) => sample[name] !== null));
    fill(
      byId("system-none"),
      names.length
        ? null
        : h("p", { class: "ns-muted ns-none" }, "No samples yet: the first comes a second after a runner starts."),
    );
    charts.draw(
      names.map((name, place) => {
        const known = samples.filter((sample) => sample[name] !== null);
        const at = known.map((sample) => Date.parse(sample.at) / 1000);
        return {
          title: NAMES[name],
          lines: [
            {
              label: NAMES[name],
              name,
              color: color(place),
              from: began,
              curve: { step: at, at, value: known.map((sample) => sample[name]) },
            },
          ],
        };
      }),
    );
  }
  section.addEventListener("toggle", load);
  document.addEventListener("visibilitychange", load);
}

/** @type {Record<string, string>} */
const LABELS = {
  nightshift: "Nightshift",
  cpu: "processor",
  gpu: "GPU",
  python: "Python",
  begun_by: "not exact: begun by",
};

/**
 * Draw the environment of the newest attempt that has one.
 * @param {Attempt[]} attempts
 */
export function drawEnvironment(attempts) {
  const attempt = attempts.findLast(({ environment }) => environment);
  byId("environment-card").hidden = !attempt;
  if (!attempt) return;
  const { libraries = {}, ...facts } = attempt.environment ?? {};
  const rows = [...Object.entries(facts), ...Object.entries(libraries)];
  patch(
    byId("environment"),
    attempts.length > 1 ? h("p", { class: "ns-muted" }, `Attempt ${attempt.attempt}`) : null,
    h(
      "dl",
      { class: "ns-values" },
      rows.map(([name, value]) => [
        h("dt", {}, LABELS[name] || name),
        h("dd", {}, name === "commit" ? h("code", {}, value.slice(0, 12)) : String(value)),
      ]),
    ),
  );
}
