// What the list of data sets and the page of one both show.

import { h } from "./dom.js";
import { number } from "./format.js";

export const PARTS = { train: "training", valid: "validation", test: "test" };

/** "1,437 training · 360 test". */
export const rows = (counts) => Object.entries(counts).map(([part, count]) => `${number(count)} ${PARTS[part] || part}`).join(" · ");

export const counts = (splits) => Object.fromEntries(Object.entries(splits).map(([part, { count }]) => [part, count]));

/** What a row of it is. */
export const noun = (kind) => (kind === "text" ? "documents" : "images");

/** [8, 8, 1] -> "8 × 8, grey". */
export const size = (image) => (image ? `${image[0]} × ${image[1]}, ${image[2] === 1 ? "grey" : "colour"}` : null);

/** How a job can have a built-in set that nobody has registered, in a word or two. */
export const HAD = { on_first_use: "registered by the first job", needs_download: "needs download", unavailable: "no files, downloads are off" };

const HOW = {
  on_first_use: "Its files are here; the first job that names it registers it:",
  needs_download: "It needs a download: a worker makes it for the first job that names it, unless its published files are in that worker's NIGHTSHIFT_DATASETS_DIR.",
  unavailable: "Its files are not in NIGHTSHIFT_DATASETS_DIR, and NIGHTSHIFT_DATASET_DOWNLOADS is never: jobs that name it are refused.",
};

/** The same, with what to do. */
export const howToGet = ({ name, availability }) => [
  HOW[availability],
  availability === "unavailable" ? null : h("code", {}, `nightshift submit train cnn --dataset ${name}`),
  ...(availability === "on_first_use" ? [] : ["Without a download:", h("code", {}, `nightshift datasets add ${name} path/to/folder`)]),
].filter(Boolean);
