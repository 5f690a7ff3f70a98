// Access to the server for every page: addresses, data, actions, messages, polling.

import { confirmed } from "./dialog.js";
import { byId, fill, h } from "./dom.js";
import { age, exact } from "./format.js";

/** @type {Config} */
export const config = JSON.parse(byId("ns-config").textContent ?? "");

/** A response with an error status, and the wrong fields. */
export class ServerError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {FieldError[]} errors
   */
  constructor(status, message, errors = []) {
    super(message);
    this.status = status;
    this.errors = errors;
  }
}

/**
 * Return the message of anything that was thrown.
 * @param {unknown} error
 */
export const said = (error) => (error instanceof Error ? error.message : String(error));

/**
 * Return the address of a page: url("/jobs").
 * @param {string} path
 */
export const url = (path) => config.root + path;

/** @param {Response} response */
async function answer(response) {
  const isJson = (response.headers.get("Content-Type") || "").startsWith("application/json");
  const value = isJson ? await response.json() : null;
  if (!response.ok) {
    throw new ServerError(response.status, value?.error || `The server answered ${response.status}.`, value?.errors);
  }
  return value;
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export const getJson = async (path, signal) => answer(await fetch(url(path), { signal }));

/**
 * @param {string} path
 * @param {object} body
 * @returns {Promise<any>}
 */
export const post = async (path, body = {}) =>
  answer(
    await fetch(url(path), {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-XSRFToken": config.xsrf },
      body: JSON.stringify(body),
    }),
  );

/**
 * Show a short message in the corner and return it. Errors stay until closed; others 5 seconds, unless `stays`.
 * @param {string} message
 * @param {"success" | "danger"} kind
 */
export function toast(message, kind = "success", stays = kind === "danger") {
  const close = h("button", { class: "btn-close", type: "button", "aria-label": "Close" });
  const box = h(
    "div",
    { class: `ns-toast ns-toast-${kind}`, role: kind === "danger" ? "alert" : "status" },
    h("span", {}, message),
    close,
  );
  close.addEventListener("click", () => box.remove());
  byId("toast-container").append(box);
  if (!stays) setTimeout(() => box.remove(), 5000);
  return box;
}

/**
 * Return a button that POSTs once per press, after a question if `ask` is given; `done` gets the answer.
 * @param {string} label
 * @param {string} path
 * @param {ActionOptions} options
 */
export function actionButton(label, path, { style = "outline-secondary", ask, body = {}, done, title } = {}) {
  const button = h(
    "button",
    { class: `btn btn-sm btn-${style}`, type: "button", title, "data-key": path + JSON.stringify(body) },
    label,
  );
  button.addEventListener("click", async () => {
    if (ask && !(await confirmed(ask.question, ask.detail, label))) return;
    button.disabled = true;
    try {
      const value = await post(path, body);
      if (value?.message) toast(value.message);
      await done?.(value);
    } catch (error) {
      toast(said(error), "danger");
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

/**
 * Poll: call `load` every `seconds` while the page is visible, and show the state in #ns-live.
 * `now()` polls at once and drops an older answer that arrives later.
 * @param {(signal: AbortSignal) => Promise<void>} load
 * @param {number} seconds
 * @returns {Live}
 */
export function live(load, seconds = 2) {
  let timer = 0;
  let turn = 0;
  let failures = 0;
  /** @type {AbortController | null} */
  let controller = null;
  /** @type {(state: string, text: string) => void} */
  const show = (state, text) =>
    fill(byId("ns-live"), h("span", { class: `ns-dot ns-dot-${state}`, "aria-hidden": "true" }), text);
  async function run() {
    clearTimeout(timer);
    turn += 1;
    const mine = turn;
    controller?.abort();
    controller = new AbortController();
    try {
      await load(controller.signal);
      if (mine !== turn) return;
      failures = 0;
      show("live", "Live");
    } catch (error) {
      if (mine !== turn || (error instanceof Error && error.name === "AbortError")) return;
      failures += 1;
      show("error", error instanceof ServerError ? error.message : "Connection lost; retrying");
    }
    const wait = Math.min(30, seconds * 2 ** Math.min(failures, 4));
    if (mine === turn && !document.hidden) timer = window.setTimeout(run, wait * 1000);
  }
  const seen = () => (document.hidden ? clearTimeout(timer) : run());
  document.addEventListener("visibilitychange", seen);
  show("live", "Live");
  timer = window.setTimeout(run, seconds * 1000);
  return {
    now: run,
    stop: (text = "Ended") => {
      clearTimeout(timer);
      turn += 1;
      controller?.abort();
      document.removeEventListener("visibilitychange", seen);
      show("ended", text);
    },
  };
}

/**
 * Return a time as its age, updated every second, with the exact time as title.
 * @param {string | null | undefined} time
 * @returns {Child}
 */
export const ago = (time) =>
  time ? h("time", { datetime: time, title: exact(time), "data-age": "" }, age(time)) : "–";

setInterval(() => {
  for (const element of /** @type {NodeListOf<HTMLTimeElement>} */ (document.querySelectorAll("time[data-age]"))) {
    const text = age(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);
