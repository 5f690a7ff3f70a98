// A button with a box that opens below it; Escape, a press outside and the button close it.

import { h } from "./dom.js";

/**
 * Return the menu; `draw` fills its box each time it is opened.
 * @param {string} text
 * @param {(box: HTMLElement) => void | Promise<void>} draw
 */
export function menu(text, draw, { label = text, wide = false } = {}) {
  const button = h(
    "button",
    {
      type: "button",
      class: "btn btn-outline-secondary",
      "aria-expanded": "false",
      "aria-haspopup": "true",
      "aria-label": label === text ? null : label,
    },
    text,
  );
  const box = h("div", {
    class: `ns-menu-box${wide ? " ns-menu-wide" : ""}`,
    role: "group",
    "aria-label": label,
    hidden: true,
  });
  const element = h("div", { class: "ns-menu" }, button, box);
  /** @param {PointerEvent} event */
  const outside = (event) => {
    if (!(event.target instanceof Node && element.contains(event.target))) close();
  };

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
    // Move left as far as needed to be fully visible.
    box.style.marginLeft = "0";
    const over = box.getBoundingClientRect().right - document.documentElement.clientWidth + 8;
    box.style.marginLeft = over > 0 ? `${-over}px` : "0";
    /** @type {HTMLElement | null} */ (box.querySelector("input, button, a"))?.focus({ preventScroll: true });
  }

  button.addEventListener("click", () => (box.hidden ? open() : close()));
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !box.hidden) {
      event.stopPropagation();
      close({ focus: true });
    }
  });
  return { element, button, box, close };
}
