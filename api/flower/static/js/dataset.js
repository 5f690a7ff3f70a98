// The page of one data set: contents, preview, versions, and the jobs and models that used it.

import { addData } from "./add_data.js";
import { counts, hasParts, howToGet, noun, PARTS, rows, size } from "./dataset_parts.js";
import { previewCards } from "./dataset_preview.js";
import { byId, fill, h, pageData, parts } from "./dom.js";
import { kindLabel, trainCommand } from "./facts.js";
import { bytes, number } from "./format.js";
import { mayChange, whose } from "./owned.js";
import { empty, stateBadge } from "./parts.js";
import { actionButton, ago, config, getJson, live, said, toast, url } from "./site.js";
import { drawTable } from "./table.js";

/** @type {DatasetPage} */
let shown = pageData();
/** @type {DatasetVersion[]} */
let older = [];
const ref = location.pathname.split("/").pop();
const part = parts();
/** @param {number} version */
const at = (version) => url(`/datasets/${shown.name}${version === shown.newest ? "" : `@${version}`}`);

// -- what the version holds -------------------------------------------------------------------------

/**
 * @param {string} label
 * @param {Child} value
 * @param {Child} sub
 */
const fact = (label, value, sub = null) =>
  value === null || value === undefined
    ? null
    : h(
        "div",
        { class: "ns-fact" },
        h("dt", {}, label),
        h("dd", {}, value, sub && h("span", { class: "ns-sub" }, sub)),
      );

/** @param {Splits} splits */
const tokens = (splits) => Object.values(splits).reduce((sum, { tokens: count = 0 }) => sum + count, 0);

function drawFacts() {
  const {
    registered,
    version,
    newest,
    kind,
    splits,
    image,
    classes,
    tags,
    split,
    size_bytes: weight,
    sha256,
    builtin,
    created_at: made,
    used,
  } = shown;
  if (!registered)
    return fill(
      byId("dataset-facts"),
      h("div", { class: "ns-card" }, empty(`${shown.name} is not registered yet`, ...howToGet(shown))),
    );
  fill(
    byId("dataset-facts"),
    h(
      "dl",
      { class: "ns-facts" },
      fact(
        "Version",
        version,
        version === newest ? "the newest" : h("a", { href: at(newest ?? version) }, `version ${newest} is newer`),
      ),
      fact("Kind", hasParts(kind) ? null : kind),
      fact(hasParts(kind) ? "Rows" : "Content", rows(counts(splits)), noun(shown)),
      fact("Columns", shown.preview && "column_count" in shown.preview ? number(shown.preview.column_count) : null),
      fact("Images", size(image)),
      fact("Classes", classes.length ? number(classes.length) : null),
      fact("Tags", tags.length ? number(tags.length) : null, tags.length ? `${number(tokens(splits))} tokens` : null),
      fact("Size", bytes(weight)),
      fact("Test split", split),
      fact("Registered", ago(made), builtin ? "built in" : whose(shown)),
      fact("Used by", `${number(used.jobs)} ${used.jobs === 1 ? "job" : "jobs"}`),
      fact("SHA-256", h("code", { title: sha256 }, sha256.slice(0, 12))),
    ),
  );
}

/** Draw a bar per class, or per tag of tokens, divided by split; without both, a bar per split. */
function drawClasses() {
  const parts = Object.keys(shown.splits);
  const [names, histogram] = shown.tags.length
    ? [shown.tags, /** @type {const} */ ("tags")]
    : [shown.classes, /** @type {const} */ ("classes")];
  const labelled = names.length > 0 && parts.some((one) => shown.splits[one][histogram]);
  /** @type {[string, [string, number][]][]} */
  const lines = labelled
    ? names.map((name) => [name, parts.map((one) => [one, shown.splits[one][histogram]?.[name] || 0])])
    : parts.map((one) => [PARTS[one] || one, [[one, shown.splits[one].count]]]);
  const most = Math.max(1, ...lines.map(([, found]) => found.reduce((sum, [, count]) => sum + count, 0)));
  fill(
    byId("dataset-legend"),
    labelled ? parts.map((one) => h("span", { class: `ns-part ns-part-${one}` }, PARTS[one] || one)) : null,
  );
  fill(
    byId("dataset-classes"),
    h(
      "dl",
      {
        class: "ns-tally",
        tabindex: 0,
        "aria-label": labelled ? (shown.tags.length ? "Tokens per tag" : "Rows per class") : "Rows per split",
      },
      lines.map(([name, found]) => [
        h("dt", { title: name }, name),
        h(
          "dd",
          { class: "ns-tally-bars", "aria-hidden": "true" },
          found
            .filter(([, count]) => count)
            .map(([one, count]) =>
              h("span", {
                class: `ns-part-${one}`,
                title: `${number(count)} ${PARTS[one] || one}`,
                style: { width: `${(100 * count) / most}%` },
              }),
            ),
        ),
        h("dd", { class: "ns-tally-count" }, found.map(([, count]) => number(count)).join(" + ")),
      ]),
    ),
  );
}

async function drawSample() {
  const box = byId("dataset-sample");
  const address = `/datasets/${shown.name}@${shown.version}/sample`;
  if (shown.kind === "image") {
    fill(
      box,
      h("img", {
        class: "ns-look",
        src: url(address),
        alt: `Images of ${shown.name}, a row for each class`,
        onerror: () => fill(box, h("p", { class: "ns-muted ns-none" }, "Its files cannot be read on this host.")),
      }),
    );
    return;
  }
  try {
    const response = await fetch(url(address));
    if (!response.ok) throw new Error();
    fill(box, h("pre", { class: "ns-look-text", tabindex: 0 }, await response.text()));
  } catch {
    fill(box, h("p", { class: "ns-muted ns-none" }, "Its files cannot be read on this host."));
  }
}

// -- versions ---------------------------------------------------------------------------------------

/** @param {number} value */
const signed = (value) => (value > 0 ? `+ ${number(value)}` : `− ${number(-value)}`);

/** @param {DatasetVersion} version */
function changed({ change, version }) {
  if (!change) return h("span", { class: "ns-muted" }, version === 1 ? "first version" : "–");
  const lines = Object.entries(change.rows).map(([one, count]) => `${signed(count)} ${PARTS[one] || one}`);
  /**
   * @param {string} one
   * @param {string} several
   * @param {string[]} names
   */
  const named = (one, several, names) =>
    names.length
      ? `${names.length > 1 ? several : one}: ${names.slice(0, 6).join(", ")}${names.length > 6 ? " …" : ""}`
      : null;
  const said = [
    lines.join(" · "),
    named("new class", "new classes", change.classes),
    named("removed class", "removed classes", change.gone),
    named("new tag", "new tags", change.tags),
    named("removed tag", "removed tags", change.gone_tags),
  ].filter(Boolean);
  return said.length
    ? said.map((line, place) => (place ? h("span", { class: "ns-sub" }, line) : line))
    : "same number of rows, different content";
}

/** @param {DatasetVersion} version */
function held({ held_by: by }) {
  if (!by.length) return h("span", { class: "ns-muted" }, "nothing");
  /** @param {string} one */
  const line = (one) =>
    one.startsWith("job ")
      ? h("a", { href: url(`/jobs/${one.slice(4)}`), "data-key": one }, `job ${one.slice(4, 12)}`)
      : one;
  return [
    by.slice(0, 3).flatMap((one, place) => (place ? [", ", line(one)] : [line(one)])),
    by.length > 3 ? ` and ${by.length - 3} more` : null,
  ];
}

/** @param {DatasetVersion} version */
function deleteButton({ version, held_by: by }) {
  const path = `/datasets/${shown.name}/versions/${version}/delete`;
  const detail =
    "Its number is not used again. Its files are removed by the next pruning after an hour, " +
    "unless another data set has the same content.";
  const held = by.length ? ` It is in use by ${by[0]}, so this will be refused.` : "";
  const done = () => {
    older = [];
    return version === shown.version
      ? location.assign(shown.versions.length > 1 ? url(`/datasets/${shown.name}`) : url("/datasets"))
      : updates.now();
  };
  const button = actionButton("Delete", path, {
    ask: { question: `Delete ${shown.name}@${version}?`, detail: detail + held },
    done,
  });
  button.setAttribute("aria-label", `Delete version ${version}`);
  return button;
}

/** @type {Column<DatasetVersion>[]} */
const COLUMNS = [
  {
    label: "Version",
    class: "ns-nowrap",
    cell: ({ version }) =>
      h(
        "a",
        {
          class: "ns-name",
          href: at(version),
          "aria-current": version === shown.version ? "true" : null,
          "data-key": `v${version}`,
        },
        version,
      ),
  },
  { label: "Created", class: "ns-nowrap", cell: ({ created_at: made }) => ago(made) },
  { label: "Rows", class: "ns-nowrap", cell: (version) => rows(version.rows) },
  { label: "Changes", class: "ns-wide", cell: changed },
  { label: "Size", class: "ns-number", cell: ({ size_bytes: weight }) => bytes(weight) },
  { label: "Jobs", class: "ns-number", cell: ({ jobs }) => number(jobs) },
  { label: "Models", class: "ns-number", cell: ({ models }) => number(models) },
  { label: "In use by", cell: held },
];
const ACTIONS = {
  label: "",
  head: h("span", { class: "visually-hidden" }, "Actions"),
  class: "ns-number",
  cell: deleteButton,
};

function drawVersions() {
  const every = [...shown.versions, ...older];
  drawTable(byId("dataset-versions"), mayChange(shown) ? [...COLUMNS, ACTIONS] : COLUMNS, every, {
    key: ({ version }) => version,
    rowClass: ({ version }) => (version === shown.version ? "ns-shown" : ""),
  });
  const last = every.at(-1);
  fill(
    byId("dataset-more"),
    last?.change
      ? h(
          "button",
          { class: "btn btn-sm btn-outline-secondary", type: "button", onclick: () => showOlder(last.version) },
          "Older versions",
        )
      : null,
  );
}

/** @param {number} before */
async function showOlder(before) {
  try {
    older = [...older, ...(await getJson(`/datasets/${ref}/data?before=${before}`)).versions];
    drawVersions();
  } catch (error) {
    toast(said(error), "danger");
  }
}

// -- who used it ------------------------------------------------------------------------------------

/**
 * @param {string} href
 * @param {string} name
 * @param {Child[]} rest
 */
const line = (href, name, ...rest) =>
  h("li", {}, h("a", { class: "ns-name", href, "data-key": href }, name), h("span", { class: "ns-sub" }, rest));

function drawJobs() {
  /** @param {DatasetPage["jobs"][number]} job */
  const said = (job) =>
    line(
      url(`/jobs/${job.id}`),
      job.name || job.id.slice(0, 8),
      stateBadge(job.state),
      ` ${[kindLabel(job.kind), job.family].filter(Boolean).join(" ")} · `,
      job.version ? `version ${job.version}` : "newest version at start",
      " · ",
      ago(job.created_at),
    );
  fill(
    byId("dataset-jobs"),
    shown.jobs.length
      ? shown.jobs.map(said)
      : h("li", { class: "ns-muted" }, shown.used.jobs ? "Only other owners' jobs." : "None yet."),
  );
  fill(
    byId("dataset-jobs-all"),
    shown.jobs.length
      ? h(
          "a",
          { href: url(`/jobs?q=${encodeURIComponent(shown.name)}`) },
          shown.used.jobs > shown.jobs.length ? `all ${number(shown.used.jobs)}` : "show in the jobs table",
        )
      : null,
  );
}

function drawModels() {
  /** @param {DatasetPage["models"][number]} model */
  const said = (model) =>
    line(
      url(`/models/${model.name}`),
      `${model.name}@${model.version}`,
      `${model.family} · from version ${model.dataset_version ?? "?"} · `,
      ago(model.created_at),
    );
  fill(
    byId("dataset-models"),
    shown.models.length ? shown.models.map(said) : h("li", { class: "ns-muted" }, "None yet."),
  );
}

// -- the page ---------------------------------------------------------------------------------------

async function add() {
  const added = await addData(shown, shown.name, shown.registered ? shown.kind : null);
  if (!added) return;
  if (shown.newest === undefined || ref !== shown.name) location.href = url(`/datasets/${shown.name}`);
  else updates.now();
}

const addCommand = () =>
  hasParts(shown.kind) || !shown.registered
    ? `append ${shown.name} PATH`
    : `add ${shown.name} PATH --kind ${shown.kind}`;

function drawActions() {
  const open = shown.registered ? mayChange(shown) : !config.readOnly && shown.name !== "digits";
  fill(
    byId("dataset-actions"),
    !open
      ? null
      : h(
          "button",
          {
            class: "btn btn-outline-secondary",
            type: "button",
            "data-key": "add",
            onclick: add,
            title: `Or: nightshift datasets ${addCommand()} · then: ${trainCommand(shown.name, shown.kind)}`,
          },
          "Add a version",
        ),
  );
}

/** @param {Splits} splits */
const total = (splits) => Object.values(counts(splits)).reduce((sum, count) => sum + count, 0);

/** @param {DatasetPage} answer */
function draw(answer) {
  shown = answer;
  const inParts = shown.registered && hasParts(shown.kind);
  byId("dataset-look").hidden = !inParts;
  part("facts", [shown.registered, shown.version, shown.newest, shown.used, shown.owner, shown.may_change], () => {
    drawFacts();
    drawActions();
  });
  if (shown.registered)
    part("look", [shown.sha256], () => {
      fill(byId("dataset-preview"), inParts ? null : previewCards(shown.preview, total(shown.splits)));
      if (!inParts) return;
      drawClasses();
      drawSample();
    });
  part("versions", [shown.versions, shown.version, shown.may_change], drawVersions);
  part("jobs", [shown.jobs, shown.used], drawJobs);
  part("models", shown.models, drawModels);
}

draw(shown);
const updates = live(async (signal) => draw(await getJson(`/datasets/${ref}/data`, signal)), 5);
