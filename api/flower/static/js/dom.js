// Creates elements. Strings are always set as text, never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
const there = (children) =>
  /** @type {any[]} */ (children)
    .flat(Number.POSITIVE_INFINITY)
    .filter((child) => ![null, undefined, false].includes(child));

/**
 * @template {HTMLElement | SVGElement} E
 * @param {E} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {E}
 */
function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name === "class") element.setAttribute("class", String(value));
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...there(children));
  return element;
}

/**
 * h("a", {href, class, onclick}, "text", child, …): attributes that are null or false are left out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
export const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
export const svg = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);
/**
 * Return the element with this id, which must exist.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element has the id ${id}`);
  return found;
}

/**
 * Replace the children of an element; focus stays on the child with the same `data-key`.
 * @param {Element} element
 * @param {Child[]} children
 */
export function fill(element, ...children) {
  keepingFocus(element, () => element.replaceChildren(...there(children)));
}

/**
 * Like `fill`, but equal children are kept, so that an update in the middle of a click does not lose it.
 * Equal means equal markup: if only a listener changes, an attribute (`data-key`) must change with it.
 * @param {Element} element
 * @param {Child[]} children
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
    while (element.childNodes.length > wanted.length) element.lastChild?.remove();
  });
}

/**
 * Keep open what the user has opened.
 * @param {Node | undefined} old
 * @param {Node} node
 */
function keepOpen(old, node) {
  const [before, after] = [old, node].map((one) =>
    one instanceof Element ? [...one.querySelectorAll("details")] : [],
  );
  if (before.length === after.length)
    after.forEach((details, place) => {
      details.open = before[place].open;
    });
}

const focusKey = () => /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.key;

/**
 * @param {Element} element
 * @param {() => void} change
 */
function keepingFocus(element, change) {
  const focused = element.contains(document.activeElement) ? focusKey() : undefined;
  change();
  if (focused && focusKey() !== focused)
    /** @type {HTMLElement | null} */ (element.querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus({
      preventScroll: true,
    });
}

/**
 * Return a function that calls `draw` only if the value of a part has changed since the last call.
 * @returns {(name: string, value: unknown, draw: () => void) => void}
 */
export function parts() {
  /** @type {Map<string, string>} */
  const drawn = new Map();
  return (name, value, draw) => {
    const text = JSON.stringify(value) ?? "";
    if (drawn.get(name) === text) return;
    drawn.set(name, text);
    draw();
  };
}

/**
 * Return the values of a form, trimmed.
 * @param {HTMLFormElement} form
 * @returns {Record<string, string>}
 */
export const entries = (form) =>
  Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));

/**
 * Return the data that the server put into the page.
 * @returns {any}
 */
export const pageData = () => JSON.parse(byId("ns-data").textContent ?? "");
