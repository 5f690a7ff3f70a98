// The log of a job: its tail, new lines as they come, earlier ones on request.

import { fill, h } from "./dom.js";
import { exact } from "./format.js";
import { getJson, said, toast } from "./site.js";

/** Lines kept on the page; earlier ones can be loaded again. */
const KEPT = 5000;
const SEVERE = ["warning", "error", "stderr"];

/**
 * @param {boolean} checked
 * @param {(on: boolean) => void} change
 */
const checkbox = (checked, change) =>
  h("input", {
    type: "checkbox",
    class: "form-check-input",
    checked,
    onchange: (event) => change(event.target.checked),
  });

export class Log {
  /**
   * @param {HTMLElement} box
   * @param {HTMLElement} tools
   * @param {string} jobId
   * @param {LogLine[]} lines
   * @param {number} firstLines
   */
  constructor(box, tools, jobId, lines, firstLines) {
    this.box = box;
    this.jobId = jobId;
    /** @type {LogLine[]} */
    this.lines = [];
    this.search = "";
    this.severe = false;
    this.follow = true;
    this.earlier = h(
      "button",
      { type: "button", class: "btn btn-sm btn-outline-secondary", onclick: () => this.loadEarlier() },
      "Load earlier lines",
    );
    this.earlier.hidden = lines.length < firstLines;
    this.list = h("div", {});
    this.nothing = h("p", { class: "ns-muted ns-log-empty" }, "No log lines yet.");
    this.following = checkbox(true, (on) => {
      this.follow = on;
      this.toEnd();
    });
    fill(box, this.earlier, this.nothing, this.list);
    fill(tools, this.tools());
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.add(lines);
  }

  tools() {
    const severe = checkbox(false, (on) => {
      this.severe = on;
      this.draw();
    });
    const search = h("input", {
      type: "search",
      class: "form-control form-control-sm",
      placeholder: "Find in the log",
      "aria-label": "Find in the log",
      oninput: (event) => {
        this.search = event.target.value.toLowerCase();
        this.draw();
      },
    });
    return [
      search,
      h("label", { class: "ns-tool" }, severe, "Warnings only"),
      h("label", { class: "ns-tool" }, this.following, "Follow"),
    ];
  }

  /** New lines are followed while the end is in view. */
  scrolled() {
    this.follow = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 30;
    this.following.checked = this.follow;
  }

  /**
   * Append lines; known ones are skipped.
   * @param {LogLine[]} lines
   */
  add(lines) {
    const last = this.lines.at(-1)?.seq ?? -1;
    const news = lines.filter((line) => line.seq > last);
    if (!news.length) return this.say();
    this.list.append(...this.elements(news, this.lines.at(-1)));
    this.lines.push(...news);
    if (this.lines.length > KEPT) {
      this.lines.splice(0, this.lines.length - KEPT);
      this.earlier.hidden = false;
      this.draw();
    }
    this.say();
    this.toEnd();
  }

  async loadEarlier() {
    this.earlier.disabled = true;
    try {
      const { lines } = await getJson(`/jobs/${this.jobId}/log?before=${this.lines[0]?.seq ?? 0}&limit=1000`);
      const below = this.box.scrollHeight - this.box.scrollTop;
      this.lines.unshift(...lines);
      this.earlier.hidden = lines.length < 1000;
      this.draw();
      this.box.scrollTop = this.box.scrollHeight - below;
    } catch (error) {
      toast(said(error), "danger");
    }
    this.earlier.disabled = false;
  }

  draw() {
    fill(this.list, this.elements(this.lines, null));
    this.say();
    this.toEnd();
  }

  say() {
    this.nothing.hidden = this.list.childElementCount > 0;
    this.nothing.textContent = this.lines.length ? "No matching lines." : "No log lines yet.";
  }

  /** @param {LogLine} line */
  shown(line) {
    return (
      (!this.severe || SEVERE.includes(line.level)) &&
      (!this.search || line.message.toLowerCase().includes(this.search))
    );
  }

  /**
   * @param {LogLine[]} lines
   * @param {LogLine | null | undefined} before
   */
  elements(lines, before) {
    let attempt = before?.attempt ?? null;
    return lines
      .filter((line) => this.shown(line))
      .flatMap((line) => {
        const row = h(
          "div",
          { class: `ns-line ns-level-${line.level}` },
          h("time", { datetime: line.at, title: exact(line.at) }, line.at.slice(11, 19)),
          h("span", { class: "ns-level" }, line.level),
          h("span", { class: "ns-message" }, line.message),
        );
        const turned = attempt !== null && line.attempt !== attempt;
        attempt = line.attempt;
        return turned ? [h("div", { class: "ns-log-attempt" }, `attempt ${attempt}`), row] : [row];
      });
  }

  toEnd() {
    if (this.follow) this.box.scrollTop = this.box.scrollHeight;
  }
}
