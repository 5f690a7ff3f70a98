// Pieces shared by the list of data sets and the page of one.

import { h } from "./dom.js";
import { trainCommand } from "./facts.js";
import { number } from "./format.js";

/** @type {Record<string, string>} */
export const PARTS = { train: "training", valid: "validation", test: "test" };

/**
 * "1,437 training · 360 test", or "150 rows" where there are no parts.
 * @param {Record<string, number>} counts
 */
export const rows = (counts) =>
  Object.entries(counts)
    .map(([part, count]) => `${number(count)} ${PARTS[part] || (count === 1 ? part.replace(/s$/, "") : part)}`)
    .join(" · ");

/**
 * Whether versions of this kind grow by rows and have parts; files and tables are stored as one whole.
 * @param {string} kind
 */
export const hasParts = (kind) => kind === "image" || kind === "text";

/** @param {Splits} splits */
export const counts = (splits) => Object.fromEntries(Object.entries(splits).map(([part, { count }]) => [part, count]));

/**
 * Return what a row of a part is.
 * @param {Pick<DatasetRow, "kind" | "tags">} dataset
 */
export const noun = ({ kind, tags }) =>
  hasParts(kind) ? (kind === "text" ? (tags.length ? "sentences" : "documents") : "images") : null;

/**
 * [8, 8, 1] -> "8 × 8, grayscale".
 * @param {DatasetRow["image"]} image
 */
export const size = (image) => (image ? `${image[0]} × ${image[1]}, ${image[2] === 1 ? "grayscale" : "color"}` : null);

/**
 * Availability of a built-in data set that is not registered yet.
 * @type {Record<string, string>}
 */
export const HAD = {
  on_first_use: "registered by the first job",
  needs_download: "needs download",
  unavailable: "not available",
};

/** @type {Record<string, string>} */
const HOW = {
  on_first_use: "The first job that uses it registers it:",
  needs_download:
    "A worker downloads it for the first job that uses it, unless its files are in NIGHTSHIFT_DATASETS_DIR there.",
  unavailable: "Its files are not in NIGHTSHIFT_DATASETS_DIR and downloads are off, so jobs that use it are refused.",
};

/**
 * Return the availability with instructions.
 * @param {Pick<DatasetRow, "name" | "availability">} dataset
 * @returns {Child[]}
 */
export const howToGet = ({ name, availability }) =>
  [
    HOW[availability],
    availability === "unavailable" ? null : h("code", {}, trainCommand(name)),
    ...(availability === "on_first_use"
      ? []
      : ["Without a download:", h("code", {}, `nightshift datasets add ${name} path/to/folder`)]),
  ].filter(Boolean);
