// The list of models: champion, metric by version, aliases.

import { ask } from "./dialog.js";
import { byId, fill, h, pageData } from "./dom.js";
import { trainCommand } from "./facts.js";
import { measure, metricName } from "./figures.js";
import { whose } from "./owned.js";
import { empty, sparkline } from "./parts.js";
import { ago, config, getJson, live, post, said, toast, url } from "./site.js";
import { drawTable } from "./table.js";

/** @param {ModelRow} model */
const champion = ({ champion: now }) => (now ? `version ${now.version}` : h("span", { class: "ns-muted" }, "none"));

/** @param {ModelRow} model */
function figure(model) {
  const name = model.metric ?? "";
  const value = name && model.champion?.metrics[name];
  return h(
    "div",
    { class: "ns-metric" },
    model.points.length > 1 ? sparkline(model.points, { label: `${metricName(name)} by version:` }) : null,
    h(
      "div",
      {},
      typeof value === "number" ? measure(name, value) : "–",
      h("span", { class: "ns-sub" }, metricName(name)),
    ),
  );
}

/** @param {ModelRow} model */
const others = (model) => Object.entries(model.aliases).filter(([alias]) => alias !== "champion");

/** @type {Column<ModelRow>[]} */
const COLUMNS = [
  {
    label: "Model",
    class: "ns-wide",
    cell: (model) => [
      h("a", { class: "ns-name", href: url(`/models/${model.name}`), "data-key": model.name }, model.name),
      h("span", { class: "ns-sub" }, [model.family, model.framework, whose(model)].filter(Boolean).join(" · ")),
    ],
  },
  { label: "Champion", class: "ns-nowrap", cell: champion },
  { label: "Metric", class: "ns-metric-column", cell: figure },
  {
    label: "Other aliases",
    cell: (model) =>
      others(model).length
        ? others(model).map(([alias, version]) => h("span", { class: "ns-badge" }, `${alias} → ${version}`))
        : h("span", { class: "ns-muted" }, "–"),
  },
  { label: "Versions", class: "ns-number", cell: (model) => model.versions.toLocaleString("en-US") },
  {
    label: "Newest",
    class: "ns-nowrap",
    cell: (model) => [ago(model.updated_at), h("span", { class: "ns-sub" }, `version ${model.latest_version}`)],
  },
];

let drawn = "";
/** @param {{ models: ModelRow[] }} answer */
function draw({ models }) {
  const text = JSON.stringify(models);
  if (text === drawn) return;
  drawn = text;
  byId("models-card").hidden = !models.length;
  drawTable(byId("models-table"), COLUMNS, models, { key: (model) => model.name });
  fill(
    byId("models-empty"),
    models.length
      ? null
      : empty(
          "No model yet",
          "A job with register_as registers the model it trains:",
          h("code", {}, `${trainCommand("digits")} --set register_as=digits`),
        ),
  );
}

async function register() {
  const values = await ask(
    "Register a job as a model",
    "A succeeded job that has a model becomes a version: the first of a new model, or the next one.",
    [
      { name: "name", label: "Model", required: true, max: 100, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*" },
      {
        name: "job",
        label: "Job",
        required: true,
        max: 16,
        pattern: "[0-9a-f]{4,16}",
        hint: "Job id or its first characters",
      },
    ],
    "Register",
  );
  if (!values) return;
  try {
    await post(`/models/${values.name}/register`, { job: values.job });
    location.href = url(`/models/${values.name}`);
  } catch (error) {
    toast(said(error), "danger");
  }
}

if (!config.readOnly)
  fill(
    byId("models-actions"),
    h(
      "button",
      {
        class: "btn btn-outline-secondary",
        type: "button",
        onclick: register,
        title: "Or: nightshift models register NAME JOB",
      },
      "Register a job",
    ),
  );
draw(pageData());
live(async (signal) => draw(await getJson("/models/-/data", signal)), 5);
