// The page that submits a job, as a form or as JSON.

import { HAD } from "./dataset_parts.js";
import { byId, fill, h, pageData } from "./dom.js";
import { kindOf, TRAIN } from "./facts.js";
import { flat, leaf } from "./job_parts.js";
import { followSettings } from "./layers.js";
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
 * Return what the preset says of a field of the model or of the training.
 * @param {string} path
 */
function ofPreset(path) {
  const [section, ...rest] = path.split(".");
  if (!makesModel(spec.kind) || (section !== "model" && section !== "training")) return undefined;
  return preset()?.[section][rest.join(".")];
}

/**
 * Return the value that applies if the field is empty.
 * @param {FormField} field
 */
function usual({ path, default: known, by }) {
  if (!by) return ofPreset(path) ?? known;
  const [own, chosen] = deciding(by);
  const left = chosen === own && at(spec, path) !== null;
  return (left ? ofPreset(path) : undefined) ?? by.values[chosen];
}

/**
 * Return what the field that decides about another one has by default, and what is chosen.
 * @param {{ path: string, usual: string }} by
 */
function deciding({ path, usual: known }) {
  const own = ofPreset(path) ?? known;
  return [own, at(spec, path) ?? own];
}

/**
 * Return whether a field means anything: a constant of another optimizer does not, unless it is set.
 * @param {FormField} field
 */
function applies({ path, by }) {
  return !by || (by.values[deciding(by)[1]] ?? at(spec, path) ?? null) !== null;
}

/**
 * Change a field; fields whose defaults follow from it are emptied.
 * @param {string} path
 * @param {unknown} value
 */
function change(path, value) {
  const before = dataset();
  spec = put(spec, path, value);
  errors.delete(path);
  const follow = (forms[spec.kind] ?? []).filter(({ by }) => by?.path === path);
  for (const one of follow) {
    spec = put(spec, one.path, undefined);
    errors.delete(one.path);
  }
  if (follow.length) drawForm();
  mark(path, null);
  if (dataset() !== before) fill(byId("known-columns"), columnOptions());
  drawChanges();
  layers.soon();
}

/**
 * Show or remove the error of a field without drawing the form again.
 * @param {string} path
 * @param {string | null} message
 */
function mark(path, message) {
  const place = fieldOf(path);
  if (!place) return;
  place.classList.toggle("is-invalid", message !== null);
  if (message === null) place.removeAttribute("aria-invalid");
  else place.setAttribute("aria-invalid", "true");
  place.setAttribute("aria-describedby", `${place.id}-error`);
  byId(`${place.id}-error`).textContent = message;
}

/**
 * Return the field that has the place of an error, or contains it: an entry of a list has none of its own.
 * @param {(string | number)[]} loc
 */
function fieldAt(loc) {
  for (let end = loc.length; end > 0; end -= 1) {
    const path = loc.slice(0, end).join(".");
    if (fieldOf(path)) return path;
  }
  return loc.join(".");
}

/**
 * Return the errors by field; that of an entry says which one.
 * @param {FieldError[]} wrong
 * @returns {Map<string, string>}
 */
const byField = (wrong) =>
  new Map(
    wrong.map(({ loc, msg }) => {
      const entry = loc.at(-1);
      return [fieldAt(loc), typeof entry === "number" && !fieldOf(loc.join(".")) ? `entry ${entry + 1}: ${msg}` : msg];
    }),
  );

/** The fields that the layers were refused for. */
let ofLayers = new Set();
const layers = followSettings(
  () => {
    if (notJson || !makesModel(spec.kind)) return null;
    return post("/jobs/layers", { model: spec.model ?? {}, ...(dataset() ? { dataset: spec.dataset } : {}) });
  },
  (wrong) => {
    const found = byField(wrong);
    for (const path of ofLayers) if (!found.has(path) && !errors.has(path)) mark(path, null);
    for (const [path, message] of found) mark(path, message);
    ofLayers = new Set(found.keys());
    const elsewhere = [...found].filter(([path]) => !fieldOf(path)).map(([path, message]) => `${path}: ${message}`);
    byId("layers-error").textContent = elsewhere.join("; ");
  },
);

/** Return the data set that is chosen, if it is known. */
const dataset = () => datasets.find(({ name }) => name === String(spec.dataset ?? "").split("@")[0]);

/** Return the columns of the chosen table as suggestions. */
const columnOptions = () => (dataset()?.columns ?? []).map((name) => h("option", { value: name }));

/**
 * Return the data set for a family: the chosen one if it fits or is not known, else the first that fits.
 * @param {string} family
 */
function datasetFor(family) {
  const chosen = dataset();
  if (!chosen || chosen.families.includes(family)) return spec.dataset;
  return datasets.find(({ families: able }) => able.includes(family))?.name ?? "";
}

/**
 * Change family or preset; model settings of the old one are dropped, and a data set that does not fit.
 * @param {Record<string, any>} model
 * @param {boolean} keepTraining
 */
function choose(model, keepTraining = true) {
  const { training, ...rest } = spec;
  spec = {
    ...rest,
    dataset: datasetFor(model.family),
    model: { framework: spec.model?.framework, ...model },
    ...(keepTraining && training ? { training } : {}),
  };
  if (!spec.model.framework) delete spec.model.framework;
  errors = new Map();
  drawForm();
  drawChanges();
  layers.now();
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
    { hint: hints[facts.path], ...(facts.format === "column" ? { list: "known-columns" } : {}), ...facts },
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
  const wanted = program()?.dataset_kinds;
  const fitting = datasets.filter(
    (one) => (!wanted || wanted.includes(one.kind)) && (!of || one.families.includes(of.name)),
  );
  return [
    origin
      ? null
      : choice("kind", "Kind", offered(), (kind) => {
          spec = fresh(kind, spec);
          errors = new Map();
          drawForm();
          layers.now();
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
    h("datalist", { id: "known-columns" }, columnOptions()),
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

/** Return the fields of the kind, with those of the program or of the family's model. */
function fieldsOf() {
  const own = runsProgram(spec.kind) ? program()?.fields : makesModel(spec.kind) ? family()?.fields : [];
  return [...(own ?? []), ...(forms[spec.kind] || [])].filter(applies).flatMap((field) => {
    if (field.path !== "training.augment" || !makesModel(spec.kind)) return field;
    const options = family()?.augmentations ?? [];
    return options.length ? { ...field, options } : [];
  });
}

/** The sections of the settings that are seldom changed, in this order; others follow. */
const SECTIONS = ["training", "job"];

/** @param {FormField} field */
const sectionOf = ({ path }) => (path.includes(".") ? path.split(".")[0] : "job");

function drawForm() {
  const fields = fieldsOf();
  const rest = fields.filter(({ often }) => !often);
  const ofModel = rest.filter((field) => sectionOf(field) === "model");
  const others = rest.filter((field) => sectionOf(field) !== "model");
  const sections = [...new Set([...SECTIONS, ...others.map(sectionOf)])];
  fill(
    byId("spec-form"),
    h("div", { class: "ns-fields" }, choices(), fields.filter(({ often }) => often).map(shown)),
    ofModel.length ? more("model-settings", "Model settings", ofModel, fieldBox(ofModel)) : null,
    more("more-settings", "More settings", others, [
      sections.map((section) => {
        const inside = others.filter((field) => sectionOf(field) === section);
        return inside.length ? [h("h3", {}, section), fieldBox(inside)] : null;
      }),
      h(
        "p",
        { class: "ns-muted" },
        runsProgram(spec.kind) ? "Promotion: edit as JSON." : "Early stopping and promotion: edit as JSON.",
      ),
    ]),
  );
}

/** @param {FormField[]} fields */
const fieldBox = (fields) => h("div", { class: "ns-fields" }, fields.map(shown));

/**
 * Return settings that are opened by a press; they stay open, and open by themselves where a field is wrong.
 * @param {string} id
 * @param {string} title
 * @param {FormField[]} fields
 * @param {Child} content
 */
function more(id, title, fields, content) {
  const before = /** @type {HTMLDetailsElement | null} */ (document.getElementById(id));
  const open = before?.open || fields.some(({ path }) => errors.has(path));
  return h("details", { id, class: "ns-more", open }, h("summary", {}, title), content);
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
  errors = byField(wrong);
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
  layers.soon();
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
layers.now();
fieldOf(origin ? "name" : "kind")?.focus();
