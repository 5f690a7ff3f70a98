// What is done to all ticked jobs at once.

import { fill, h } from "./dom.js";

/** bulkBar(box, selection, done) -> {draw} */
export function bulkBar(box, selection) {
  return {
    draw() {
      box.hidden = !selection.size;
      fill(box, h("span", {}, `${selection.size} chosen`), h("button", { type: "button", class: "btn btn-sm btn-outline-secondary", onclick: () => selection.clear() }, "Choose none"));
    },
  };
}
