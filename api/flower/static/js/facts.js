// Kinds of job and model families, as the server tells them (facts.py).

import { config } from "./site.js";

export const { kinds, families } = config.facts;

/** @param {string} name */
export const kindOf = (name) => kinds.find((kind) => kind.name === name);
/**
 * Return the label of a kind, or its name if it is unknown: "Fine-tune".
 * @param {string} name
 */
export const kindLabel = (name) => kindOf(name)?.label ?? name;

/** The kinds that train a new model, train an existing one, run inference, and run a program. */
export const TRAIN = theKind((kind) => kind.makesModel);
export const CONTINUE = theKind((kind) => kind.trains && !kind.makesModel);
export const INFER = theKind((kind) => kind.infers);
const RUN = theKind((kind) => kind.runsProgram);

/** @param {(kind: Kind) => boolean} fits */
function theKind(fits) {
  const found = kinds.find(fits);
  if (!found) throw new Error("the server has no such kind");
  return found;
}

/**
 * Return "nightshift submit train cnn --dataset digits", with the first family for such data, or a program.
 * @param {string} dataset
 * @param {string} datasetKind
 */
export function trainCommand(dataset, datasetKind = "image") {
  const family = families.find((one) => one.datasetKind === datasetKind);
  if (!family) return `nightshift submit ${RUN.name} PROGRAM --dataset ${dataset}`;
  return `nightshift submit ${TRAIN.name} ${family.name} --dataset ${dataset}`;
}
