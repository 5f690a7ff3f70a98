// The list of data sets: contents and use.

import { addData } from "./add_data.js";
import { counts, HAD, noun, rows, size } from "./dataset_parts.js";
import { byId, fill, h, pageData } from "./dom.js";
import { bytes, number } from "./format.js";
import { whose } from "./owned.js";
import { ago, config, getJson, live, url } from "./site.js";
import { drawTable } from "./table.js";

const none = () => h("span", { class: "ns-muted" }, "–");
/** @param {DatasetRow} set */
const holds = (set) =>
  set.registered ? [rows(counts(set.splits)), h("span", { class: "ns-sub" }, noun(set))] : none();
/** @param {DatasetRow} set */
const classes = (set) =>
  set.registered && set.tags.length
    ? [number(set.tags.length), h("span", { class: "ns-sub" }, "tags")]
    : set.registered && set.classes.length
      ? [number(set.classes.length), h("span", { class: "ns-sub" }, size(set.image))]
      : none();

/** @type {Column<DatasetRow>[]} */
const COLUMNS = [
  {
    label: "Data set",
    class: "ns-wide",
    cell: (set) => [
      h("a", { class: "ns-name", href: url(`/datasets/${set.name}`), "data-key": set.name }, set.name),
      h(
        "span",
        { class: "ns-sub" },
        set.registered ? (set.builtin ? "built in" : whose(set)) : `built in, ${HAD[set.availability]}`,
      ),
    ],
  },
  { label: "Newest", class: "ns-nowrap", cell: (set) => (set.registered ? `version ${set.version}` : none()) },
  { label: "Kind", cell: (set) => set.kind || none() },
  { label: "Rows", class: "ns-nowrap", cell: holds },
  { label: "Classes", class: "ns-nowrap", cell: classes },
  { label: "Size", class: "ns-number", cell: (set) => (set.registered ? bytes(set.size_bytes) : none()) },
  { label: "Jobs", class: "ns-number", cell: (set) => number(set.jobs) },
  { label: "Changed", class: "ns-nowrap", cell: (set) => (set.registered ? ago(set.created_at) : none()) },
];

/** @type {DatasetsPage} */
let shown = pageData();
let drawn = "";
/** @param {DatasetsPage} answer */
function draw(answer) {
  shown = answer;
  const text = JSON.stringify(shown.datasets);
  if (text === drawn) return;
  drawn = text;
  drawTable(byId("datasets-table"), COLUMNS, shown.datasets, { key: (set) => set.name });
}

async function add() {
  const added = await addData(shown);
  if (added) location.href = url(`/datasets/${added.name}`);
}

if (!config.readOnly)
  fill(
    byId("datasets-actions"),
    h("button", { class: "btn btn-primary", type: "button", onclick: add }, "Add a data set"),
  );
draw(shown);
live(async (signal) => draw(await getJson("/datasets/-/data", signal)), 5);
