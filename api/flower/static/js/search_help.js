// The syntax help of the job search.

import { fill, h } from "./dom.js";
import { menu } from "./menu.js";

const EXAMPLES = [
  ["nightly mnist", "both words, in the name, data set, model, worker, tags or at the start of the id"],
  ["test_accuracy > 0.95", "a result or a curve's last value; 95% works too"],
  ["best.val_loss < 0.1", "the best value of a curve; also min. and max."],
  ["lr < 0.01 optimizer:adam", "settings, by name or path (model.preset:mnist)"],
  ["tag:team=vision", "a tag; tag:team for any value"],
  ["state:failed,cancelled", "any of these"],
  ["error:crashed age < 2d", "times as 90s, 10m, 2h, 3d; created > 2026-11-01"],
  ["who:ada is:live", "by owner; also is:live, is:final, is:archived"],
  ["-name:test", "jobs that do not match"],
];

/**
 * Return the help button; `use` gets an example that was pressed.
 * @param {(example: string) => void} use
 */
export function searchHelp(use) {
  const rows = () =>
    EXAMPLES.map(([example, means]) =>
      h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            onclick: () => {
              made.close();
              use(example);
            },
          },
          h("code", {}, example),
          h("span", { class: "ns-sub" }, means),
        ),
      ),
    );
  const made = menu("?", (box) => fill(box, h("ul", { class: "ns-examples" }, rows())), {
    label: "Search syntax",
    wide: true,
  });
  return made.element;
}
