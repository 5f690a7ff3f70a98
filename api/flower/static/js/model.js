// The page of one model: versions, metrics, aliases and the history of changes.

import { drawComparison } from "./comparison.js";
import { ask } from "./dialog.js";
import { byId, fill, h, pageData, parts } from "./dom.js";
import { measure, metricName } from "./figures.js";
import { drawWhenOpened } from "./layers.js";
import { drawUse } from "./model_use.js";
import { mayChange, whose } from "./owned.js";
import { ago, getJson, live, post, said, toast, url } from "./site.js";
import { drawTable } from "./table.js";
import { drawCharts, redrawOnChange } from "./version_charts.js";

/** Metrics with a column in the table of versions: the first ones of the server's order. */
const JUDGED = 2;
/** Most versions compared at once. */
const MOST = 8;
/** @type {ModelPage} */
let model = pageData();
/** @type {Paged<AliasChange>} */
let older = { items: [], next: null };
/**
 * Older versions loaded on request.
 * @type {ModelVersion[]}
 */
let past = [];
/**
 * The version before which there are more.
 * @type {number | null}
 */
let before = null;
const part = parts();
/** The version whose layers are shown. */
let layersOf = 0;
const drawLayers = drawWhenOpened("layers-card", "layers", () => here(`/versions/${layersOf}/layers`));
/** @param {string} rest */
const here = (rest) => `/models/${model.name}${rest}`;
const chosen = () =>
  new Set((new URLSearchParams(location.search).get("compare") || "").split(",").filter(Boolean).map(Number));

// -- asking for changes ---------------------------------------------------------------------------------

/**
 * @param {string} path
 * @param {object} body
 */
async function send(path, body) {
  try {
    toast((await post(here(path), body)).message);
  } catch (error) {
    toast(said(error), "danger");
  }
  updates.now();
}

/**
 * @param {string} path
 * @param {Record<string, unknown>} body
 */
const act = (path, body) => send(path, { ...body, reason: body.reason || null });

/** @param {number} version */
async function promote(version) {
  const now = model.aliases.find(({ alias }) => alias === "champion")?.version;
  const champion = `the champion${now ? ` (version ${now} now)` : ""}`;
  const detail = `Jobs that name just “${model.name}” use ${champion}. Running jobs keep their version.`;
  const values = await ask(
    `Point an alias at version ${version}?`,
    detail,
    [
      { name: "alias", label: "Alias", value: "champion", max: 100, required: true },
      { name: "reason", label: "Reason (kept in the history)" },
    ],
    "Promote",
  );
  if (values) await act("/aliases", { version, ...values });
}

/** @param {Alias} alias */
async function rollBack({ alias, version }) {
  const values = await ask(
    `Roll ${alias} back?`,
    `It points at version ${version}; it will point at its previous version again.`,
    [{ name: "reason", label: "Reason (kept in the history)" }],
    "Roll back",
  );
  if (values) await act("/rollback", { alias, ...values });
}

// -- what people say of it ---------------------------------------------------------------------------

const DESCRIPTION = { name: "description", label: "Description", lines: 6, max: 20000 };

async function describe() {
  const values = await ask(
    `Describe ${model.name}`,
    "Purpose, training data, known limits. Visible to everyone who can see the model.",
    [{ ...DESCRIPTION, value: model.description || "" }],
    "Save",
  );
  if (values) await send("/describe", values);
}

/**
 * "team=vision, checked" -> {team: "vision", checked: "yes"}.
 * @param {string} text
 * @returns {Tags}
 */
const tagsOf = (text) =>
  Object.fromEntries(
    text
      .split(",")
      .map((one) => one.trim())
      .filter(Boolean)
      .map((one) =>
        one
          .split(/=(.*)/s)
          .slice(0, 2)
          .map((part) => part.trim()),
      )
      .map(([key, value]) => [key, value || "yes"]),
  );

/** @param {ModelVersion} version */
async function describeVersion(version) {
  const tags = Object.entries(version.tags)
    .map(([key, value]) => `${key}=${value}`)
    .join(", ");
  const values = await ask(
    `Describe ${model.name}@${version.version}`,
    "What is special about this version.",
    [
      { ...DESCRIPTION, value: version.description || "" },
      { name: "tags", label: "Tags", value: tags, max: 1000, hint: "name=value, separated by commas" },
    ],
    "Save",
  );
  if (!values) return;
  const wanted = tagsOf(values.tags);
  const gone = Object.fromEntries(
    Object.keys(version.tags)
      .filter((key) => !(key in wanted))
      .map((key) => [key, null]),
  );
  await send(`/versions/${version.version}/describe`, {
    description: values.description,
    tags: { ...gone, ...wanted },
  });
  past = [];
}

async function register() {
  const values = await ask(
    `Register a job as ${model.name}`,
    "A succeeded job that has a model becomes the next version.",
    [
      {
        name: "job",
        label: "Job",
        required: true,
        max: 16,
        pattern: "[0-9a-f]{4,16}",
        hint: "Job id or its first characters",
      },
      { ...DESCRIPTION, lines: 3 },
    ],
    "Register",
  );
  if (values) await send("/register", values);
}

function drawHead() {
  fill(
    byId("model-actions"),
    whose(model) && h("span", { class: "ns-muted" }, whose(model)),
    !mayChange(model)
      ? null
      : [
          h(
            "button",
            {
              class: "btn btn-sm btn-outline-secondary",
              type: "button",
              "data-key": "register",
              onclick: register,
              title: `Or: nightshift models register ${model.name} JOB`,
            },
            "Register a job",
          ),
          h(
            "button",
            { class: "btn btn-sm btn-outline-secondary", type: "button", "data-key": "describe", onclick: describe },
            model.description ? "Edit description" : "Describe",
          ),
        ],
  );
  fill(byId("model-description"), model.description ? h("p", { class: "ns-said" }, model.description) : null);
}

// -- what is shown ----------------------------------------------------------------------------------

function drawAliases() {
  /** @param {Alias} item */
  const card = (item) =>
    h(
      "div",
      { class: "ns-alias" },
      h("span", { class: "ns-badge ns-champion" }, item.alias),
      h(
        "span",
        {},
        "version ",
        h("strong", {}, item.version),
        h("span", { class: "ns-muted" }, " since ", ago(item.since)),
      ),
      !mayChange(model)
        ? null
        : h(
            "button",
            {
              class: "btn btn-sm btn-outline-secondary",
              type: "button",
              "data-key": `rollback-${item.alias}`,
              onclick: () => rollBack(item),
            },
            "Roll back",
          ),
    );
  fill(
    byId("model-aliases"),
    model.aliases.length ? model.aliases.map(card) : h("p", { class: "ns-muted" }, "No alias points at any version."),
  );
}

/**
 * Select or deselect a version to compare; false if too many are selected.
 * @param {number} version
 * @param {boolean} on
 */
function choose(version, on) {
  const wanted = chosen();
  on ? wanted.add(version) : wanted.delete(version);
  if (wanted.size <= MOST) compare([...wanted]);
  else toast(`At most ${MOST} versions fit side by side.`, "danger");
  return wanted.size <= MOST;
}

/** @param {number[]} versions */
function compare(versions) {
  const next = new URLSearchParams(location.search);
  versions.length ? next.set("compare", versions.sort((a, b) => a - b).join(",")) : next.delete("compare");
  history.replaceState(null, "", `${location.pathname}${next.size ? `?${next}` : ""}`);
  drawVersions();
  updates.now();
}

/** @param {ModelVersion} version */
function verdict({ promotion }) {
  if (!promotion) return h("span", { class: "ns-muted" }, "–");
  return [
    h(
      "span",
      { class: `ns-badge ns-${promotion.promoted ? "succeeded" : "cancelled"}` },
      promotion.promoted ? "promoted" : "not promoted",
    ),
    h("span", { class: "ns-sub" }, promotion.reason),
  ];
}

/** @param {number} version */
const aliasesOf = (version) =>
  model.aliases
    .filter((item) => item.version === version)
    .map(({ alias }) => h("span", { class: "ns-badge ns-champion" }, alias));

/**
 * Link the parent: `digits@2` is a model version, `job:<id>` a job.
 * @param {string} parent
 */
function origin(parent) {
  if (parent.startsWith("job:")) return h("a", { href: url(`/jobs/${parent.slice(4)}`) }, `job ${parent.slice(4, 12)}`);
  return h("a", { href: url(`/models/${parent.split("@")[0]}`) }, parent);
}

/** @param {ModelVersion} one */
const versionCell = (one) => [
  h("span", { class: "ns-nowrap" }, h("strong", {}, one.version), " ", aliasesOf(one.version)),
  one.description ? h("span", { class: "ns-sub ns-said" }, one.description) : null,
  Object.keys(one.tags).length
    ? h(
        "div",
        {},
        Object.entries(one.tags).map(([key, value]) => h("span", { class: "ns-tag" }, `${key}=${value}`)),
      )
    : null,
];

/** @param {ModelVersion} one */
function versionButtons(one) {
  /**
   * @param {string} label
   * @param {string} key
   * @param {() => void} press
   */
  const button = (label, key, press) =>
    h(
      "button",
      {
        class: "btn btn-sm btn-outline-secondary",
        type: "button",
        "data-key": `${key}-${one.version}`,
        "data-said": JSON.stringify([one.description, one.tags]),
        "aria-label": `${label} version ${one.version}`,
        onclick: press,
      },
      label,
    );
  return h(
    "div",
    { class: "ns-buttons ns-schedule-buttons" },
    !mayChange(model)
      ? null
      : [button("Promote", "promote", () => promote(one.version)), button("Edit", "edit", () => describeVersion(one))],
    h(
      "a",
      {
        class: "btn btn-sm btn-outline-secondary",
        href: url(`/models/${model.name}/versions/${one.version}/files`),
        download: "",
        "aria-label": `Files of version ${one.version}`,
        title: "model.safetensors, config.json, … as a zip",
      },
      "Files",
    ),
  );
}

const rows = () => [
  ...model.versions,
  ...past.filter(({ version }) => !model.versions.some((one) => one.version === version)),
];

/** @returns {Column<ModelVersion>[]} */
function columns() {
  const judged = Object.keys(model.senses)
    .filter((name) => model.senses[name])
    .slice(0, JUDGED);
  return [
    {
      label: "",
      head: h("span", { class: "visually-hidden" }, "Select to compare"),
      class: "ns-check",
      cell: ({ version }) =>
        h("input", {
          type: "checkbox",
          class: "form-check-input",
          "data-key": `choose-${version}`,
          checked: chosen().has(version),
          "aria-label": `Compare version ${version}`,
          onchange: ({ target }) => {
            if (!choose(version, target.checked)) target.checked = !target.checked;
          },
        }),
    },
    { label: "Version", cell: versionCell },
    ...judged.map((name) => ({
      label: metricName(name),
      class: "ns-number",
      cell: (/** @type {ModelVersion} */ { metrics }) =>
        typeof metrics[name] === "number" ? measure(name, metrics[name]) : "–",
    })),
    {
      label: "Data set",
      cell: ({ dataset, parent }) => [
        dataset ? h("a", { href: url(`/datasets/${dataset}`), "data-key": `data-${dataset}` }, dataset) : "–",
        parent ? h("span", { class: "ns-sub" }, "fine-tuned from ", origin(parent)) : null,
      ],
    },
    {
      label: "Job",
      class: "ns-wide",
      cell: ({ job, who, framework, schedule }) => [
        job
          ? h(
              "a",
              { class: "ns-name", href: url(`/jobs/${job.id}`), "data-key": `job-${job.id}` },
              job.name || job.id.slice(0, 8),
            )
          : h("span", { class: "ns-muted" }, who ? "another owner's job" : "deleted job"),
        h(
          "span",
          { class: "ns-sub" },
          [who, framework].filter(Boolean).join(" · "),
          schedule ? [" · by ", h("a", { href: url(`/schedules/${schedule.id}`) }, schedule.name)] : null,
        ),
      ],
    },
    { label: "Created", class: "ns-nowrap", cell: ({ created_at }) => ago(created_at) },
    ...(rows().some(({ promotion }) => promotion)
      ? [{ label: "Compared to the champion", class: "ns-wide", cell: verdict }]
      : []),
    { label: "", head: h("span", { class: "visually-hidden" }, "Actions"), class: "ns-number", cell: versionButtons },
  ];
}

function drawVersions() {
  const every = rows();
  drawTable(byId("model-versions"), columns(), every, { key: ({ version }) => version });
  const next = past.length ? before : model.next;
  const rest = model.total - every.length;
  fill(
    byId("model-more"),
    next && rest > 0
      ? h(
          "button",
          {
            class: "btn btn-sm btn-outline-secondary",
            type: "button",
            "data-key": "older-versions",
            onclick: () => showPast(next),
          },
          `${rest.toLocaleString("en-US")} older versions`,
        )
      : null,
  );
}

/** @param {number} next */
async function showPast(next) {
  try {
    const found = await getJson(here(`/data?before=${next}`));
    [past, before] = [[...past, ...found.versions], found.next];
    drawVersions();
  } catch (error) {
    toast(said(error), "danger");
  }
}

/** @param {AliasChange} change */
function sentence({ change, alias, from_version: from, to_version: to }) {
  if (change === "register") return `version ${to} registered`;
  if (change === "describe") return to === null ? "described" : `version ${to} described`;
  if (change === "delete") return `version ${from} deleted`;
  if (change === "rollback") return `${alias} rolled back from version ${from} to ${to}`;
  return from === null ? `${alias} set to version ${to}` : `${alias} moved from version ${from} to ${to}`;
}

/**
 * Link the actor if it is a job (`job:<id>`).
 * @param {string} who
 */
const actor = (who) =>
  who.startsWith("job:") ? h("a", { href: url(`/jobs/${who.slice(4)}`) }, `job ${who.slice(4, 12)}`) : who;

function drawHistory() {
  const items = [...model.history.items, ...older.items];
  fill(
    byId("model-history"),
    items.map((item) =>
      h(
        "li",
        {},
        h("span", { class: "ns-change" }, sentence(item)),
        item.why ? h("q", {}, item.why) : null,
        h("span", { class: "ns-sub" }, actor(item.who), " · ", ago(item.at)),
      ),
    ),
  );
  const next = older.items.length ? older.next : model.history.next;
  fill(
    byId("model-history-more"),
    next
      ? h(
          "button",
          { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => showOlder(next) },
          "Older changes",
        )
      : null,
  );
}

/** @param {string} cursor */
async function showOlder(cursor) {
  try {
    const { items, next } = await getJson(here(`/history?cursor=${encodeURIComponent(cursor)}`));
    older = { items: [...older.items, ...items], next };
    drawHistory();
  } catch (error) {
    toast(said(error), "danger");
  }
}

/** @param {ModelPage} answer */
function draw(answer) {
  model = answer;
  const { aliases, versions, comparison } = model;
  part("head", [model.description, model.owner, model.may_change], drawHead);
  part("aliases", [aliases, model.may_change], drawAliases);
  part("versions", [versions, aliases, model.total, model.may_change], drawVersions);
  part("charts", [model.charts, aliases], () => drawCharts(byId("model-charts"), model));
  const champion = aliases.find(({ alias }) => alias === "champion")?.version;
  part("layers", champion ?? versions[0].version, () => {
    layersOf = champion ?? versions[0].version;
    byId("layers-of").textContent = `version ${layersOf}`;
    drawLayers();
  });
  part("use", [champion, versions[0].version], () =>
    drawUse(
      byId("model-use"),
      champion ? model.name : `${model.name}@${versions[0].version}`,
      versions.find(({ version }) => version === champion) || versions[0],
    ),
  );
  part("comparison", comparison, () => drawComparison(byId("model-comparison"), comparison, () => compare([])));
  part("history", model.history, () => {
    older = { items: [], next: null };
    drawHistory();
  });
}

draw(model);
redrawOnChange(byId("model-charts"), () => model);
const updates = live(async (signal) => draw(await getJson(here(`/data${location.search}`), signal)), 5);
