// The page that submits a job, as a form or as JSON.

import { HAD } from "./dataset_parts.js";
import { byId, fill, h, pageData } from "./dom.js";
import { kindOf, TRAIN } from "./facts.js";
import { flat, leaf } from "./job_parts.js";
import { post, ServerError, said, url } from "./site.js";
import { at, field, put } from "./spec_form.js";

/** @type {SubmitPage} */
const { origin, forms, families, datasets, models, programs, token } = pageData();
const text = /** @type {HTMLTextAreaElement} */ (byId("spec-text"));
const submitButton = /** @type {HTMLButtonElement} */ (byId("submit-button"));
/** @type {Spec} */
let spec = origin ? origin.spec : fresh(asked(), {});
/** @type {Map<string, string>} */
let errors = new Map();
/** @type {string | null} */
let notJson = null;
let sent = { body: "", tries: 0 };

/** Return the kind that the address asks for, if it can be submitted. */
function asked() {
  const kind = new URLSearchParams(location.search).get("kind") ?? "";
  return offered().includes(kind) ? kind : TRAIN.name;
}

/** @param {string} kind */
function makesModel(kind) {
  return kindOf(kind)?.makesModel;
}

/** @param {string} kind */
function runsProgram(kind) {
  return kindOf(kind)?.runsProgram;
}

/** Return the kinds that can be submitted here: without an installed program there is none to run. */
function offered() {
  return Object.keys(forms).filter((kind) => programs.length || !runsProgram(kind));
}
const program = () => programs.find(({ name }) => name === spec.program);

/**
 * Return a spec of another kind, with the fields that both kinds have.
 * @param {string} kind
 * @param {Spec} before
 * @returns {Spec}
 */
function fresh(kind, before) {
  const known = new Set(forms[kind].map(({ path }) => path.split(".")[0]));
  const kept = Object.fromEntries(
    Object.entries(before).filter(
      ([name]) => name === "dataset" || (name !== "model" && name !== "framework" && known.has(name)),
    ),
  );
  if (makesModel(kind))
    return {
      kind,
      model: { family: families[0].name, preset: families[0].default_preset },
      dataset: "digits",
      ...kept,
    };
  if (runsProgram(kind)) {
    const { dataset, ...rest } = kept;
    const [{ name, dataset_kinds }] = programs;
    return { kind, program: name, ...(dataset_kinds.length ? { dataset: dataset ?? "digits" } : {}), ...rest };
  }
  const named = before.model_ref ?? models[0]?.name;
  return {
    kind,
    ...(named ? { model_ref: named } : {}),
    ...(kindOf(kind)?.needsDataset ? { dataset: "digits" } : {}),
    ...kept,
  };
}

/** @param {string} path */
const fieldOf = (path) => document.getElementById(`field-${path}`);
const family = () => families.find(({ name }) => name === (spec.model?.family || families[0].name));
/** @param {string} name */
const defaultPreset = (name) => families.find((one) => one.name === name)?.default_preset ?? "";
const preset = () => family()?.presets[spec.model?.preset || family()?.default_preset];

/**
 * Return the default that the preset has for a field of the training.
 * @param {string} path
 */
const ofPreset = (path) =>
  makesModel(spec.kind) && path.startsWith("training.") ? preset()?.training[path.slice(9)] : undefined;

/**
 * Return the value that applies if the field is empty.
 * @param {FormField} field
 */
function usual({ path, default: known, by }) {
  if (!by) return ofPreset(path) ?? known;
  const own = ofPreset(by.path) ?? by.usual;
  const chosen = at(spec, by.path) ?? own;
  const left = chosen === own && at(spec, path) !== null;
  return (left ? ofPreset(path) : undefined) ?? by.values[chosen];
}

/**
 * Change a field; fields whose defaults follow from it are emptied.
 * @param {string} path
 * @param {unknown} value
 */
function change(path, value) {
  spec = put(spec, path, value);
  errors.delete(path);
  const follow = (forms[spec.kind] ?? []).filter(({ by }) => by?.path === path);
  for (const one of follow) {
    spec = put(spec, one.path, undefined);
    errors.delete(one.path);
  }
  if (follow.length) drawForm();
  const place = fieldOf(path);
  place?.removeAttribute("aria-invalid");
  place?.classList.remove("is-invalid");
  if (place) byId(`${place.id}-error`).textContent = "";
  drawChanges();
}

/**
 * Change family or preset; model settings of the old one are dropped.
 * @param {Record<string, unknown>} model
 * @param {boolean} keepTraining
 */
function choose(model, keepTraining = true) {
  const { training, ...rest } = spec;
  spec = {
    ...rest,
    model: { framework: spec.model?.framework, ...model },
    ...(keepTraining && training ? { training } : {}),
  };
  if (!spec.model.framework) delete spec.model.framework;
  errors = new Map();
  drawForm();
  drawChanges();
}

/**
 * Change the program; the parameters of the old one are dropped, and a data set that it does not read.
 * @param {string} name
 */
function chooseProgram(name) {
  const { params: _, dataset, ...rest } = spec;
  const reads = programs.find((one) => one.name === name)?.dataset_kinds.length;
  spec = { ...rest, program: name, ...(reads ? { dataset: dataset ?? "digits" } : {}) };
  errors = new Map();
  drawForm();
  drawChanges();
}

/**
 * Hints below fields about the original job.
 * @type {Record<string, string | undefined>}
 */
const hints = {
  register_as: origin?.registered_as
    ? `the original job registered ${origin.registered_as}; this one does only if set`
    : undefined,
};

/** @param {FormField} facts */
const shown = (facts) =>
  field(
    { hint: hints[facts.path], ...facts },
    at(spec, facts.path),
    usual(facts),
    (value) => change(facts.path, value),
    errors.get(facts.path),
  );

function choices() {
  /**
   * @param {string} path
   * @param {string} title
   * @param {string[]} options
   * @param {(value: any) => void} set
   * @param {string} [hint]
   */
  const choice = (path, title, options, set, hint) =>
    field({ path, enum: options, title, hint }, at(spec, path), undefined, set, errors.get(path));
  const named = families.map(({ name }) => name);
  const of = makesModel(spec.kind)
    ? family()
    : families.find(
        ({ name }) => name === models.find((model) => model.name === spec.model_ref?.split("@")[0])?.family,
      );
  const wanted = program()?.dataset_kinds ?? (of ? [of.dataset_kind] : null);
  const fitting = datasets.filter(({ kind }) => !wanted || wanted.includes(kind));
  return [
    origin
      ? null
      : choice("kind", "Kind", offered(), (kind) => {
          spec = fresh(kind, spec);
          errors = new Map();
          drawForm();
        }),
    makesModel(spec.kind)
      ? [
          choice("model.family", "Model", named, (name) =>
            choose({ family: name, preset: defaultPreset(name) }, false),
          ),
          choice("model.preset", "Preset", Object.keys(family()?.presets || {}), (name) =>
            choose({ family: spec.model.family, preset: name }),
          ),
        ]
      : runsProgram(spec.kind)
        ? choosesProgram(choice)
        : shown({
            path: "model_ref",
            type: "string",
            title: "Model",
            list: "known-models",
            hint: "name, name@3, name@alias or job:<id>",
          }),
    wanted && !wanted.length
      ? null
      : shown({
          path: "dataset",
          type: "string",
          title: "Data set",
          list: "known-datasets",
          hint:
            origin?.dataset && origin.dataset !== spec.dataset
              ? `the original ran on ${origin.dataset}; ${spec.dataset} is the newest`
              : undefined,
        }),
    h(
      "datalist",
      { id: "known-datasets" },
      fitting.map(({ name, availability }) =>
        h("option", {
          value: name,
          label: availability && HAD[availability] ? `${name} (${HAD[availability]})` : null,
        }),
      ),
    ),
    h(
      "datalist",
      { id: "known-models" },
      models.map(({ name }) => h("option", { value: name })),
    ),
  ];
}

/**
 * Return the choice of the program. One that is not installed any more stays chosen, and the server refuses it.
 * @param {(path: string, title: string, options: string[], set: (value: any) => void, hint?: string) => Child} choice
 */
function choosesProgram(choice) {
  const names = [...new Set([...programs.map(({ name }) => name), spec.program])];
  return choice("program", "Program", names, chooseProgram, program()?.description || undefined);
}

function drawForm() {
  const fields = [...(runsProgram(spec.kind) ? (program()?.fields ?? []) : []), ...(forms[spec.kind] || [])];
  const rest = fields.filter(({ often }) => !often);
  const sections = [...new Set(rest.map(({ path }) => (path.includes(".") ? path.split(".")[0] : "job")))];
  const open = byId("spec-form").querySelector("details")?.open || rest.some(({ path }) => errors.has(path));
  fill(
    byId("spec-form"),
    h("div", { class: "ns-fields" }, choices(), fields.filter(({ often }) => often).map(shown)),
    h(
      "details",
      { class: "ns-more", open },
      h("summary", {}, "More settings"),
      sections.map((section) => [
        h("h3", {}, section),
        h(
          "div",
          { class: "ns-fields" },
          rest.filter(({ path }) => (path.includes(".") ? path.split(".")[0] : "job") === section).map(shown),
        ),
      ]),
      h(
        "p",
        { class: "ns-muted" },
        runsProgram(spec.kind)
          ? "Lists and promotion: edit as JSON."
          : "Lists (layers, augmentation), early stopping and promotion: edit as JSON.",
      ),
    ),
  );
}

// -- what differs, and what is wrong ----------------------------------------------------------------

/** Return a note on registration; null for kinds that make no model. */
function registration() {
  if (!(forms[spec.kind] || []).some(({ path }) => path === "register_as")) return null;
  return h(
    "p",
    { id: "submit-registration" },
    spec.register_as
      ? ["When it succeeds, its model is registered as a new version of ", h("strong", {}, leaf(spec.register_as)), "."]
      : "Its model will not be registered.",
  );
}

function drawChanges() {
  fill(byId("submit-changes"), origin && h("p", {}, changes()), registration());
}

function changes() {
  const [before, after] = [origin?.spec, spec].map(
    (one) => new Map(flat(one).map(([path, value]) => [path.join("."), JSON.stringify(value)])),
  );
  const paths = [...new Set([...after.keys(), ...before.keys()])].filter(
    (path) => before.get(path) !== after.get(path),
  );
  /**
   * @param {Map<string, string>} map
   * @param {string} path
   */
  const said = (map, path) => (map.has(path) ? leaf(JSON.parse(map.get(path) ?? "")) : "default");
  return paths.length
    ? [
        h("strong", {}, "Changed: "),
        paths.map((path, place) => [
          place ? ", " : null,
          h("span", {}, `${path} ${said(before, path)} → ${said(after, path)}`),
        ]),
      ]
    : h("span", { class: "ns-muted" }, "No changes: the job would run as before.");
}

/** @param {string | null} general */
function drawErrors(general = null) {
  const elsewhere = [...errors].filter(([path]) => byId("spec-form").hidden || !fieldOf(path));
  const lines = [
    general,
    notJson,
    ...elsewhere.map(([path, message]) => [h("strong", {}, path || "spec"), ` ${message}`]),
  ].filter(Boolean);
  fill(
    byId("submit-errors"),
    lines.length
      ? h(
          "ul",
          { class: "ns-errors" },
          lines.map((line) => h("li", {}, line)),
        )
      : null,
  );
}

/** @param {unknown} error */
function refused(error) {
  const wrong = error instanceof ServerError ? error.errors : [];
  errors = new Map(wrong.map(({ loc, msg }) => [loc.join("."), msg]));
  drawForm();
  drawErrors(errors.size ? null : said(error));
  const first = [...errors.keys()].map(fieldOf).find(Boolean);
  (byId("spec-form").hidden ? text : first)?.focus();
}

// -- form or JSON -----------------------------------------------------------------------------------

/** @param {string} name */
function view(name) {
  if (name === "form" && notJson) return text.focus();
  for (const one of ["form", "json"]) {
    const chosen = one === name;
    byId(`tab-${one}`).setAttribute("aria-selected", String(chosen));
    byId(`tab-${one}`).tabIndex = chosen ? 0 : -1;
    byId(`spec-${one}`).hidden = !chosen;
  }
  if (name === "json") text.value = JSON.stringify(spec, null, 2);
  else drawForm();
  byId(`tab-${name}`).focus();
  drawErrors();
}

text.addEventListener("input", () => {
  notJson = null;
  try {
    const value = JSON.parse(text.value);
    if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("must be an object");
    spec = value;
  } catch (error) {
    notJson = `Invalid JSON: ${said(error)}`;
  }
  errors = new Map();
  drawErrors();
  if (!notJson) drawChanges();
});

for (const name of ["form", "json"]) {
  byId(`tab-${name}`).addEventListener("click", () => view(name));
  byId(`tab-${name}`).addEventListener("keydown", (event) => {
    if (["ArrowLeft", "ArrowRight"].includes(event.key)) view(name === "form" ? "json" : "form");
  });
}

byId("submit").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (notJson) return text.focus();
  const body = JSON.stringify(spec);
  if (body !== sent.body) sent = { body, tries: sent.tries + 1 };
  submitButton.disabled = true;
  try {
    const { id } = await post("/jobs/submit", { spec, like: origin?.id ?? null, token: `${token}-${sent.tries}` });
    location.href = url(`/jobs/${id}`);
  } catch (error) {
    submitButton.disabled = false;
    refused(error);
  }
});

drawForm();
drawChanges();
fieldOf(origin ? "name" : "kind")?.focus();
