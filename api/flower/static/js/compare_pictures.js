// Pictures of the same name, one of each job, side by side.

import { title } from "./compare_values.js";
import { fill, h } from "./dom.js";
import { url } from "./site.js";

/** Most pictures shown at once; each is a request. */
const MOST = 24;

/**
 * Return the names of pictures, most common first.
 * @param {ComparedJob[]} jobs
 */
function pictureNames(jobs) {
  const count = new Map();
  for (const job of jobs) for (const path of job.pictures) count.set(path, (count.get(path) || 0) + 1);
  return [...count].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([path]) => path);
}

/**
 * @param {HTMLElement} card
 * @param {HTMLElement} box
 * @param {HTMLElement} tools
 * @param {ComparedJob[]} jobs
 * @param {View} view
 * @param {CompareTools} compared
 */
export function drawPictures(card, box, tools, jobs, view, { change, mark }) {
  const names = pictureNames(jobs);
  card.hidden = !names.length;
  if (!names.length) return;
  const chosen = names.includes(view.picture) ? view.picture : names[0];
  fill(
    tools,
    h(
      "label",
      { class: "ns-tool" },
      "Picture",
      h(
        "select",
        {
          class: "form-select form-select-sm",
          "data-key": "picture",
          onchange: (event) => change({ picture: event.target.value }),
        },
        names.map((name) => h("option", { value: name, selected: name === chosen }, name)),
      ),
    ),
  );
  const key = JSON.stringify([chosen, jobs.map((job) => [job.id, job.event_seq, job.pictures.includes(chosen)])]);
  if (box.dataset.shown === key) return; // pictures that are there are not fetched again with every answer
  box.dataset.shown = key;
  const having = jobs.map((job, place) => ({ job, place })).filter(({ job }) => job.pictures.includes(chosen));
  fill(
    box,
    having.slice(0, MOST).map(({ job, place }) => {
      const address = url(`/jobs/${job.id}/files/${chosen.split("/").map(encodeURIComponent).join("/")}`);
      return h(
        "figure",
        { class: "ns-picture", "data-job": job.id },
        h(
          "a",
          { href: address, target: "_blank" },
          h("img", { src: address, alt: `${chosen} of ${title(job)}`, loading: "lazy" }),
        ),
        h(
          "figcaption",
          {},
          h("span", { class: "ns-dot", style: { color: mark(place) } }),
          ` ${title(job)} `,
          h("code", {}, job.id.slice(0, 8)),
        ),
      );
    }),
    having.length < jobs.length
      ? h("p", { class: "ns-muted" }, `${jobs.length - having.length} of these jobs have no ${chosen}.`)
      : null,
    having.length > MOST ? h("p", { class: "ns-muted" }, `The first ${MOST} are shown.`) : null,
  );
}
