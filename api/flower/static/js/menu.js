// A button that unfolds a box: closed by Escape, by a press outside, and by the button.

import { h } from "./dom.js";

/** menu("Columns", () => children, {label}) -> {element, button, box, redraw}; `draw` is asked each time it is opened. */
export function menu(text, draw, { label = text, wide = false } = {}) {
  const button = h("button", { type: "button", class: "btn btn-outline-secondary", "aria-expanded": "false", "aria-haspopup": "true", "aria-label": label === text ? null : label }, text);
  const box = h("div", { class: `ns-menu-box${wide ? " ns-menu-wide" : ""}`, role: "group", "aria-label": label, hidden: true });
  const element = h("div", { class: "ns-menu" }, button, box);
  const outside = (event) => { if (!element.contains(event.target)) close(); };

  function close({ focus = false } = {}) {
    box.hidden = true;
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside);
    if (focus) button.focus();
  }

  async function open() {
    box.hidden = false;
    button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside);
    await draw(box);
    // As far to the left as it takes to be seen whole.
    box.style.marginLeft = "0";
    const over = box.getBoundingClientRect().right - document.documentElement.clientWidth + 8;
    box.style.marginLeft = over > 0 ? `${-over}px` : "0";
    box.querySelector("input, button, a")?.focus({ preventScroll: true });
  }

  button.addEventListener("click", () => (box.hidden ? open() : close()));
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !box.hidden) { event.stopPropagation(); close({ focus: true }); }
  });
  return { element, button, box, close };
}
