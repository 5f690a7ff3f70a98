// Several jobs together: curves, table, charts, pictures. Which jobs, and what is chosen, is in the address.

import { Charts, color, drawTools } from "./charts.js";
import { axesOf, chosenAxes, drawParallel, drawScatter, walkable } from "./compare_charts.js";
import { drawPictures } from "./compare_pictures.js";
import { drawCompareTable } from "./compare_table.js";
import { columnsOf, isFinal, short, title } from "./compare_values.js";
import { grouped } from "./curves.js";
import { byId, fill, h, pageData } from "./dom.js";
import { menu } from "./menu.js";
import { empty, stateBadge } from "./parts.js";
import { getJson, live, said, toast, url } from "./site.js";

/** @type {ComparePage} */
let found = pageData();
let { jobs } = found;
const charts = new Charts(byId("curves"));
const results = h("ul", { class: "ns-picker-list", hidden: true });
const search = h("input", {
  type: "search",
  class: "form-control form-control-sm",
  placeholder: "Add a job: name or id",
  "aria-label": "Add a job",
  autocomplete: "off",
  oninput: () => find(),
});
const adder = h("div", { class: "ns-picker" }, search, results);
/** With more jobs than this their names are folded. */
const FOLDED = 12;

const query = () => new URLSearchParams(location.search);
const view = () => Object.fromEntries(query());
/**
 * Return the color of a job. Beyond twelve jobs all have one color.
 * @param {number} place
 */
const mark = (place) => (jobs.length <= found.curves ? color(place) : "var(--ns-running)");

/** @param {URLSearchParams} next */
function setAddress(next) {
  history.replaceState(
    null,
    "",
    `${location.pathname}${next.size ? `?${next.toString().replaceAll("%2C", ",")}` : ""}`,
  );
}

/**
 * Change the view of these jobs, without a request.
 * @param {Record<string, string | null>} changes
 */
function change(changes) {
  const next = query();
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
  setAddress(next);
  draw();
}

/**
 * Compare other jobs, listed by id in the address.
 * @param {string[]} ids
 */
function choose(ids) {
  const kept = ["x", "y", "axes", "by", "layout", "every", "picture"];
  const next = new URLSearchParams([...query()].filter(([name]) => kept.includes(name)));
  if (ids.length) next.set("ids", ids.join(","));
  setAddress(next);
  updates.now();
}

let asked = 0;
async function find() {
  asked += 1;
  const mine = asked;
  const words = search.value.trim();
  results.hidden = !words;
  if (!words) return;
  try {
    /** @type {JobsTable} */
    const { items, problem } = await getJson(`/jobs/data?limit=8&q=${encodeURIComponent(words)}`);
    if (mine !== asked) return;
    const there = new Set(jobs.map((job) => job.id));
    const rows = items
      .filter((job) => !there.has(job.id))
      .map((job) =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              onclick: () => {
                search.value = "";
                results.hidden = true;
                choose([...jobs.map((one) => one.id), job.id].slice(-found.most));
              },
            },
            stateBadge(job.state),
            ` ${title(job)} `,
            h("code", {}, job.id.slice(0, 8)),
            h("span", { class: "ns-sub" }, [job.model, job.dataset, job.framework].filter(Boolean).join(" · ")),
          ),
        ),
      );
    fill(results, rows.length ? rows : h("li", { class: "ns-muted" }, problem || "No other job matches."));
  } catch (error) {
    toast(said(error), "danger");
  }
}

/**
 * @param {ComparedJob} job
 * @param {number} place
 */
function chip(job, place) {
  return h(
    "span",
    { class: "ns-chosen", "data-job": job.id, style: { borderLeftColor: mark(place) } },
    h("a", { href: url(`/jobs/${job.id}`) }, title(job)),
    h("code", {}, job.id.slice(0, 8)),
    stateBadge(job.state),
    h("button", {
      type: "button",
      class: "btn-close",
      "aria-label": `Remove ${short(job)}`,
      onclick: () => choose(jobs.filter((one) => one !== job).map((one) => one.id)),
    }),
  );
}

function drawChosen() {
  const chips = jobs.map(chip);
  const open = byId("compared").querySelector("details")?.open;
  fill(
    byId("compared"),
    jobs.length <= FOLDED
      ? chips
      : h(
          "details",
          { open },
          h(
            "summary",
            {},
            `${jobs.length} jobs`,
            found.matching > jobs.length ? ` of ${found.matching.toLocaleString("en-US")} that match` : null,
          ),
          h("div", { class: "ns-compared" }, chips),
        ),
  );
  if (jobs.length < found.most) byId("compared").append(adder);
}

/**
 * @param {ComparedJob} job
 * @param {number} place
 * @param {string} name
 * @returns {Line | null}
 */
function lineOf(job, place, name) {
  const curve = job.curves?.[name];
  if (!curve) return null;
  return {
    label: short(job),
    name,
    color: color(place),
    curve,
    from: Date.parse(job.started_at || job.created_at) / 1000,
  };
}

function drawCurves() {
  const drawn = jobs.filter((job) => job.curves);
  const names = new Set(drawn.flatMap((job) => Object.keys(job.curves ?? {})));
  const order = grouped(names).flatMap((group) => group.names);
  charts.draw(
    order.map((name) => ({
      title: name,
      lines: drawn.flatMap((job, place) => lineOf(job, place, name) ?? []),
    })),
  );
  charts.place(order.map((name) => ({ title: name })));
  byId("curves-note").hidden = drawn.length === jobs.length;
  byId("curves-note").textContent = `Curves of the first ${drawn.length} of ${jobs.length} jobs.`;
}

const axesMenu = menu(
  "Axes",
  (box) => {
    const columns = columnsOf(jobs, found.senses);
    const keys = () => chosenAxes(columns, view()).map((column) => column.key);
    /** @type {(key: string, on: boolean) => void} */
    const toggle = (key, on) =>
      change({
        axes: (on
          ? [
              ...keys().filter((one) => !axesOf(columns).figures.some(({ key: figure }) => figure === one)),
              key,
              ...keys().filter((one) => axesOf(columns).figures.some(({ key: figure }) => figure === one)),
            ]
          : keys().filter((one) => one !== key)
        ).join(","),
      });
    const now = keys();
    fill(
      box,
      h(
        "div",
        { class: "ns-menu-list" },
        axesOf(columns)
          .usable.filter((column) => column.differs)
          .map((column) =>
            h(
              "label",
              { title: column.key },
              h("input", {
                type: "checkbox",
                class: "form-check-input",
                checked: now.includes(column.key),
                onchange: (event) => toggle(column.key, event.target.checked),
              }),
              ` ${column.label}`,
            ),
          ),
      ),
    );
  },
  { wide: true },
);
byId("parallel-tools").append(axesMenu.element);

function draw() {
  drawChosen();
  for (const card of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".ns-page > .ns-card")))
    card.hidden = !jobs.length;
  fill(
    byId("compare-empty"),
    jobs.length
      ? null
      : empty(
          "Nothing to compare yet",
          "Select jobs in the jobs table and press Compare, or add them here by name or id.",
        ),
  );
  if (!jobs.length) return;
  const columns = columnsOf(jobs, found.senses);
  const chosen = { change, mark, color: mark };
  drawCurves();
  drawCompareTable(byId("compare-table"), byId("table-tools"), jobs, columns, view(), chosen);
  byId("scatter-card").hidden = byId("parallel-card").hidden = jobs.length < 2;
  drawScatter(byId("scatter"), byId("scatter-tools"), jobs, columns, view(), chosen);
  drawParallel(byId("parallel"), jobs, columns, view());
  drawPictures(byId("pictures-card"), byId("pictures"), byId("pictures-tools"), jobs, view(), chosen);
}

/**
 * @param {EventTarget | null} element
 * @returns {string | null}
 */
const jobOf = (element) =>
  (element instanceof Element ? element.closest("[data-job]")?.getAttribute("data-job") : null) || null;

/**
 * Highlight the job under the pointer or with the focus in all charts, and describe it.
 * @type {string | null}
 */
let pointed = null;
/** @param {Event} event */
function point(event) {
  // A resting pointer does not take the highlight from the element with the focus.
  const id = jobOf(event.target) || jobOf(document.activeElement);
  const reached = event.type === "focusin";
  if (id === pointed) return;
  pointed = id;
  for (const element of document.querySelectorAll(".ns-pointed")) element.classList.remove("ns-pointed");
  if (id)
    for (const element of document.querySelectorAll(`[data-job="${CSS.escape(id)}"]`))
      element.classList.add("ns-pointed");
  for (const name of ["scatter", "parallel"]) {
    const shown = id === null ? null : byId(name).querySelector(`.ns-mark[data-job="${CSS.escape(id)}"]`);
    byId(`${name}-told`).textContent = shown
      ? shown.getAttribute("aria-label")
      : "Point at a job, or move with Tab and the arrow keys, to see which one it is.";
    const last = shown?.parentElement?.lastElementChild;
    if (shown && !reached && shown !== last) last?.after(shown); // above the others
  }
}
for (const name of ["pointerover", "focusin"]) byId("ns-page").addEventListener(name, point);

let width = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (width && Math.abs(contentRect.width - width) > 1) draw();
  width = contentRect.width;
}).observe(byId("ns-page"));
for (const name of ["scatter", "parallel"]) walkable(byId(name));
for (const name of ["scatter", "parallel"])
  byId(`${name}-told`).textContent = "Point at a job, or move with Tab and the arrow keys, to see which one it is.";
drawTools(byId("curves-tools"), drawCurves);
draw();
const updates = live(
  async (signal) => {
    const text = JSON.stringify(found);
    const answer = await getJson(`/compare/data${location.search}`, signal);
    if (JSON.stringify(answer) === text) return;
    found = answer;
    ({ jobs } = found);
    draw();
  },
  jobs.every(isFinal) ? 60 : 3,
);
