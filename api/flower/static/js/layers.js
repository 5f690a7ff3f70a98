// The layers of a model: a table, drawn once it is opened or again whenever the settings change.

import { byId, fill, h } from "./dom.js";
import { bytes, number } from "./format.js";
import { getJson, ServerError, said } from "./site.js";

/** Milliseconds without a change before the layers are asked for. */
const PAUSE = 250;

/** @param {number} count */
const whole = (count) => count.toLocaleString("en-US");

/** @param {(number | null)[]} shape */
const shapeText = (shape) => shape.map((size) => size ?? "any").join(" × ") || "1";

/**
 * Return "93,322 parameters, 373 kB".
 * @param {ModelSummary} summary
 */
export function totals({ parameters, fixed, bytes: size }) {
  if (parameters === null) return "";
  const kept = fixed ? ` + ${whole(fixed)} fixed` : "";
  return `${whole(parameters)} parameters${kept}, ${bytes(size ?? 0)}`;
}

/**
 * Return what the layers suppose of the data: "classes: 10 (digits@1)".
 * @param {ModelSummary} summary
 */
function supposed({ facts, dataset }) {
  const known = amounts(facts);
  return known.length ? `${known.join(", ")}${dataset ? ` (${dataset})` : ""}` : "";
}

/**
 * Return "classes: 10" for each fact: the length of a list, the facts in an object.
 * @param {object} facts
 * @returns {string[]}
 */
const amounts = (facts) =>
  Object.entries(facts).flatMap(([name, value]) => {
    if (Array.isArray(value)) return `${name.replaceAll("_", " ")}: ${whole(value.length)}`;
    if (value !== null && typeof value === "object") return amounts(value);
    return `${name.replaceAll("_", " ")}: ${typeof value === "number" ? number(value, 8) : value}`;
  });

/**
 * Return the table. Kinds stand below names, so that it fits a phone.
 * @param {ModelSummary} summary
 */
export function layersTable(summary) {
  const ofWeights = summary.rows === "weights";
  return h(
    "table",
    { class: "ns-table ns-layers-table" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, ofWeights ? "Weight" : "Layer"),
        h("th", { scope: "col" }, ofWeights ? "Shape" : "Output"),
        h("th", { scope: "col", class: "ns-number" }, "Parameters"),
      ),
    ),
    h(
      "tbody",
      {},
      (summary.layers ?? []).map(({ name, kind, shape, parameters, fixed }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, name, h("span", { class: "ns-sub" }, kind)),
          h("td", { class: "ns-shape" }, shapeText(shape)),
          h(
            "td",
            { class: "ns-number" },
            parameters || fixed ? whole(parameters) : h("span", { class: "ns-muted" }, "–"),
            fixed ? h("span", { class: "ns-sub" }, `${whole(fixed)} fixed`) : null,
          ),
        ),
      ),
    ),
  );
}

/**
 * Return the table with its total and what it supposes, or why there is none.
 * @param {ModelSummary} summary
 * @returns {Child[]}
 */
export function layersOf(summary) {
  if (!summary.layers) return [h("p", { class: "ns-muted ns-layers-none" }, summary.error)];
  const of = supposed(summary);
  return [layersTable(summary), of ? h("p", { class: "ns-muted ns-layers-facts" }, `For ${of}`) : null];
}

/**
 * Draw the layers at an address into a card of details once it is open, and again when the address is another one.
 * Returns a function to call after that.
 * @param {string} cardId
 * @param {string} boxId
 * @param {() => string} path
 */
export function drawWhenOpened(cardId, boxId, path) {
  const [card, box] = [/** @type {HTMLDetailsElement} */ (byId(cardId)), byId(boxId)];
  let drawn = "";
  async function draw() {
    const wanted = path();
    if (!card.open || drawn === wanted) return;
    drawn = wanted;
    try {
      const found = await getJson(wanted);
      if (drawn === wanted) fill(box, totalsLine(found), layersOf(found));
    } catch (error) {
      drawn = "";
      fill(box, h("p", { class: "ns-muted ns-layers-none" }, said(error)));
    }
  }
  card.addEventListener("toggle", draw);
  return draw;
}

/** @param {ModelSummary} summary */
const totalsLine = (summary) => (summary.layers ? h("p", { class: "ns-layers-total" }, totals(summary)) : null);

/**
 * Follow settings: `ask` returns the summary of the present ones, null where there are no layers to show. What was
 * drawn stays, dimmed, until the answer arrives, so that the page does not jump.
 * @param {() => Promise<ModelSummary> | null} ask
 * @param {(errors: FieldError[]) => void} refused Gets the wrong fields, none after an answer.
 */
export function followSettings(ask, refused) {
  const [card, box, total] = [byId("layers-card"), byId("layers"), byId("layers-total")];
  let timer = 0;
  let turn = 0;

  /** @param {ModelSummary} found */
  function show(found) {
    fill(box, layersOf(found));
    total.textContent = totals(found);
    refused([]);
  }

  /** @param {unknown} error */
  function fail(error) {
    const wrong = error instanceof ServerError ? error.errors : [];
    total.textContent = wrong.length ? "of the last valid settings" : said(error);
    refused(wrong);
  }

  async function draw() {
    turn += 1;
    const mine = turn;
    const asked = ask();
    card.hidden = !asked;
    if (!asked) return;
    const [found, error] = await asked.then(
      (value) => [value, null],
      (reason) => [null, reason],
    );
    if (mine !== turn) return; // the settings have changed meanwhile
    card.classList.toggle("ns-stale", !found);
    if (found) show(found);
    else fail(error);
  }
  return {
    now: draw,
    soon() {
      clearTimeout(timer);
      timer = window.setTimeout(draw, PAUSE);
    },
  };
}
