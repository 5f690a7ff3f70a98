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

/** How a built-in set that nobody registered yet comes here. */
export const howToGet = (name) => [
  name === "digits" ? "It comes with the package; the first job that names it registers it:" : "The first job that names it registers it: from NIGHTSHIFT_DATASETS_DIR where its published files are there, else by download.",
  h("code", {}, `nightshift submit train cnn --dataset ${name}`),
  ...(name === "digits" ? [] : ["Without a connection:", h("code", {}, `nightshift datasets add ${name} path/to/folder`)]),
];
