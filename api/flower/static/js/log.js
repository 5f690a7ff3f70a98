// The log of a job: its tail, new lines as they come, earlier ones when asked for.

import { fill, h } from "./dom.js";
import { exact } from "./format.js";
import { getJson, toast } from "./site.js";

/** Lines kept on the page; earlier ones are a click away. */
const KEPT = 5000;
const SEVERE = ["warning", "error", "stderr"];

export class Log {
  constructor(box, tools, jobId, lines, firstLines) {
    [this.box, this.jobId, this.lines] = [box, jobId, []];
    [this.search, this.severe, this.follow] = ["", false, true];
    this.earlier = h("button", { type: "button", class: "btn btn-sm btn-outline-secondary", onclick: () => this.loadEarlier() }, "Load earlier lines");
    this.earlier.hidden = lines.length < firstLines;
    this.list = h("div", {});
    this.nothing = h("p", { class: "ns-muted ns-log-empty" }, "Nothing was logged so far.");
    fill(box, this.earlier, this.nothing, this.list);
    fill(tools,
      h("input", { type: "search", class: "form-control form-control-sm", placeholder: "Find in the log", "aria-label": "Find in the log", oninput: (event) => { this.search = event.target.value.toLowerCase(); this.draw(); } }),
      h("label", { class: "ns-tool" }, h("input", { type: "checkbox", class: "form-check-input", onchange: (event) => { this.severe = event.target.checked; this.draw(); } }), "Warnings only"),
      h("label", { class: "ns-tool" }, this.following = h("input", { type: "checkbox", class: "form-check-input", checked: true, onchange: (event) => { this.follow = event.target.checked; this.toEnd(); } }), "Follow"));
    box.addEventListener("scroll", () => {
      this.follow = this.following.checked = box.scrollHeight - box.scrollTop - box.clientHeight < 30;
    }, { passive: true });
    this.add(lines);
  }

  /** Lines {seq, at, level, message, attempt}; those that are there already are left out. */
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
      toast(error.message, "danger");
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
    this.nothing.textContent = this.lines.length ? "No line matches." : "Nothing was logged so far.";
  }

  shown(line) {
    return (!this.severe || SEVERE.includes(line.level)) && (!this.search || line.message.toLowerCase().includes(this.search));
  }

  elements(lines, before) {
    let attempt = before?.attempt ?? null;
    return lines.filter((line) => this.shown(line)).flatMap((line) => {
      const row = h("div", { class: `ns-line ns-level-${line.level}` },
        h("time", { datetime: line.at, title: exact(line.at) }, line.at.slice(11, 19)),
        h("span", { class: "ns-level" }, line.level),
        h("span", { class: "ns-message" }, line.message));
      const turned = attempt !== null && line.attempt !== attempt;
      attempt = line.attempt;
      return turned ? [h("div", { class: "ns-log-attempt" }, `attempt ${attempt}`), row] : [row];
    });
  }

  toEnd() {
    if (this.follow) this.box.scrollTop = this.box.scrollHeight;
  }
}
