// What can be written in the search of jobs.

import { fill, h } from "./dom.js";
import { menu } from "./menu.js";

const EXAMPLES = [
  ["nightly mnist", "both words, anywhere: name, data set, model, worker, tags, the beginning of an id"],
  ["test_accuracy > 0.95", "a result or a curve's last value; 95% works too"],
  ["best.val_loss < 0.1", "the best a curve ever was; min. and max. too"],
  ["lr < 0.01 optimizer:adam", "settings, by name or path (model.preset:mnist)"],
  ["tag:team=vision", "a tag; tag:team for any value"],
  ["state:failed,cancelled", "one of these"],
  ["error:crashed age < 2d", "times as 90s, 10m, 2h, 3d; created > 2026-11-01"],
  ["who:ada is:live", "whose; is:live, is:final, is:archived"],
  ["-name:test", "not so"],
];

/** searchHelp((example) => …) -> element */
export function searchHelp(use) {
  const rows = () => EXAMPLES.map(([example, means]) => h("li", {}, h("button", { type: "button", onclick: () => { made.close(); use(example); } }, h("code", {}, example), h("span", { class: "ns-sub" }, means))));
  const made = menu("?", (box) => fill(box, h("ul", { class: "ns-examples" }, rows())), { label: "What can be searched", wide: true });
  return made.element;
}
