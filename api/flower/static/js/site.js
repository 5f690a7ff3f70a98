// What every page needs of the server: addresses, data, actions, messages, and a clock that asks again.

import { byId, fill, h } from "./dom.js";
import { age, exact } from "./format.js";

export const config = JSON.parse(byId("ns-page").dataset.config);

/** The address of one of our pages: url("/jobs"). */
export const url = (path) => config.root + path;

async function answer(response) {
  const isJson = (response.headers.get("Content-Type") || "").startsWith("application/json");
  const value = isJson ? await response.json() : null;
  if (!response.ok) {
    const error = new Error(value?.error || `The server answered ${response.status}.`);
    error.status = response.status;
    error.errors = value?.errors || [];
    throw error;
  }
  return value;
}

export const getJson = async (path, signal) => answer(await fetch(url(path), { signal }));

export const post = async (path, body = {}) =>
  answer(await fetch(url(path), {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-XSRFToken": config.xsrf },
    body: JSON.stringify(body),
  }));

/** Show a short message in the corner and return it. Errors stay until they are closed, and so does what is told to. */
export function toast(message, kind = "success", stays = kind === "danger") {
  const close = h("button", { class: "btn-close", type: "button", "aria-label": "Close", onclick: () => box.remove() });
  const box = h("div", { class: `ns-toast ns-toast-${kind}`, role: kind === "danger" ? "alert" : "status" }, h("span", {}, message), close);
  byId("toast-container").append(box);
  if (!stays) setTimeout(() => box.remove(), 5000);
  return box;
}

/** Ask before something that cannot be undone. Resolves to whether it was confirmed; Escape and "Keep" mean no. */
export function confirmed(question, detail, action) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "ns-dialog", "aria-labelledby": "ns-question" },
      h("form", { method: "dialog" },
        h("h2", { id: "ns-question" }, question),
        h("p", {}, detail),
        h("div", { class: "ns-buttons" },
          h("button", { class: "btn btn-outline-secondary", value: "no", autofocus: true }, "Go back"),
          h("button", { class: "btn btn-danger", value: "yes" }, action))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A button that POSTs and cannot be pressed twice; `then` gets the answer. With `ask` {question, detail}, asks first. */
export function actionButton(label, path, { style = "outline-secondary", ask = null, body = {}, then = null, title = null } = {}) {
  const button = h("button", { class: `btn btn-sm btn-${style}`, type: "button", title, "data-key": path + JSON.stringify(body) }, label);
  button.addEventListener("click", async () => {
    if (ask && !(await confirmed(ask.question, ask.detail, label))) return;
    button.disabled = true;
    try {
      const value = await post(path, body);
      if (value?.message) toast(value.message);
      if (then) await then(value);
    } catch (error) {
      toast(error.message, "danger");
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

/**
 * Call `load` now and again `seconds` after each end, while the page can be seen; says in #ns-live how that goes.
 * Returns {now, stop}: now() asks at once, and an older answer that comes late is dropped.
 */
export function live(load, seconds = 2) {
  let timer = null;
  let turn = 0;
  let failures = 0;
  let controller = null;
  const show = (state, text) => fill(byId("ns-live"), h("span", { class: `ns-dot ns-dot-${state}`, "aria-hidden": "true" }), text);
  async function run() {
    clearTimeout(timer);
    const mine = (turn += 1);
    controller?.abort();
    controller = new AbortController();
    try {
      await load(controller.signal);
      if (mine !== turn) return;
      failures = 0;
      show("live", "Live");
    } catch (error) {
      if (mine !== turn || error.name === "AbortError") return;
      failures += 1;
      show("error", error.status ? error.message : "Connection lost; trying again");
    }
    const wait = Math.min(30, seconds * 2 ** Math.min(failures, 4));
    if (mine === turn && !document.hidden) timer = setTimeout(run, wait * 1000);
  }
  const seen = () => (document.hidden ? clearTimeout(timer) : run());
  document.addEventListener("visibilitychange", seen);
  show("live", "Live");
  timer = setTimeout(run, seconds * 1000);
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

/** A time as its age, with the exact time in its title; ages move on by themselves. */
export const ago = (time) => (time ? h("time", { datetime: time, title: exact(time), "data-age": "" }, age(time)) : "–");

setInterval(() => {
  for (const element of document.querySelectorAll("time[data-age]")) {
    const text = age(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);
