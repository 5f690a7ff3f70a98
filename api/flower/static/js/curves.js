// Curves as data: columns that grow while a job runs, and what is computed from them. Nothing here draws.

/** Put a point where its step belongs; a step that a later attempt measured again replaces the earlier value. */
export function addPoint(curves, { name, step, epoch, value, at }) {
  const curve = (curves[name] ||= { step: [], epoch: [], value: [], at: [] });
  const put = (index, remove) => {
    curve.step.splice(index, remove, step);
    curve.epoch.splice(index, remove, epoch);
    curve.value.splice(index, remove, value);
    curve.at.splice(index, remove, at);
  };
  let index = curve.step.length;
  while (index > 0 && curve.step[index - 1] > step) index -= 1;
  if (index > 0 && curve.step[index - 1] === step) put(index - 1, 1);
  else put(index, 0);
}

/** Exponential moving average, corrected for its beginning (as TensorBoard does); weight 0 leaves values as they are. */
export function smooth(values, weight) {
  if (!weight) return values;
  let [last, seen] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    last = last * weight + (1 - weight) * value;
    seen += 1;
    return last / (1 - weight ** seen);
  });
}

/** Points that were written together carry one time: they are laid out over the seconds (at most 5) before it. */
export function spread(times) {
  const spaced = [...times];
  for (let start = 0; start < times.length;) {
    let end = start;
    while (end < times.length && times[end] === times[start]) end += 1;
    const before = Math.max(times[start] - 5, start > 0 ? Math.min(times[start], times[start - 1]) : times[start] - 1);
    for (let place = start; place < end; place += 1) spaced[place] = before + ((times[start] - before) * (place - start + 1)) / (end - start);
    start = end;
  }
  return spaced;
}

/** What has no logarithm is not drawn on a logarithmic scale. */
export const positive = (values) => values.map((value) => (value > 0 ? value : null));

/** Charts of one job: related metrics share one. [{title, names}] */
export function grouped(names) {
  const groups = new Map();
  for (const name of [...names].sort()) {
    const title = /^(val_)?([gd]_)?loss$/.test(name) ? "loss" : name.replace(/^val_/, "");
    groups.set(title, [...(groups.get(title) || []), name]);
  }
  const place = (title) => {
    const known = ["loss", "accuracy", "perplexity"].indexOf(title);
    return known >= 0 ? known : /learning_rate|per_second/.test(title) ? 9 : 5;
  };
  return [...groups].sort(([a], [b]) => place(a) - place(b) || a.localeCompare(b)).map(([title, members]) => ({ title, names: members }));
}

export function summary(curve) {
  let [low, high] = [0, 0];
  curve.value.forEach((value, index) => {
    if (value < curve.value[low]) low = index;
    if (value > curve.value[high]) high = index;
  });
  const last = curve.value.length - 1;
  return { last: curve.value[last], low: curve.value[low], lowStep: curve.step[low], high: curve.value[high], highStep: curve.step[high], step: curve.step[last] };
}
