// Elements from values. Text is always set as text, so a name or log line can hold what it likes.

const SVG = "http://www.w3.org/2000/svg";

const there = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...there(children));
  return element;
}

/** h("a", {href, class, onclick}, "text", child, …): attributes that are null or false are left out. */
export const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

/** Put `children` in the place of what an element holds; keeps the keyboard's focus on what has the same `data-key`. */
export function fill(element, ...children) {
  keepingFocus(element, () => element.replaceChildren(...there(children)));
}

/**
 * As `fill`, but what is equal stays: a click whose press and release fall on either side of an update is not lost.
 * Equal means equal to the eye: a listener that means something else must show it in an attribute (`data-key`).
 */
export function patch(element, ...children) {
  keepingFocus(element, () => {
    const wanted = there(children).map((child) => (child instanceof Node ? child : document.createTextNode(child)));
    wanted.forEach((node, place) => {
      const old = element.childNodes[place];
      keepOpen(old, node);
      if (!old) element.append(node);
      else if (old !== node && !old.isEqualNode(node)) old.replaceWith(node);
    });
    while (element.childNodes.length > wanted.length) element.lastChild.remove();
  });
}

/** What somebody unfolded stays unfolded. */
function keepOpen(old, node) {
  const [before, after] = [old, node].map((one) => (one instanceof Element ? [...one.querySelectorAll("details")] : []));
  if (before.length === after.length) after.forEach((details, place) => { details.open = before[place].open; });
}

function keepingFocus(element, change) {
  const focused = element.contains(document.activeElement) && document.activeElement.dataset.key;
  change();
  if (focused && document.activeElement?.dataset.key !== focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/** The value a page was served with. */
export const pageData = () => JSON.parse(byId("ns-data").textContent);
