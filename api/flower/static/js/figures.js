// What figures of whole runs are called.

import { metricName } from "./format.js";
import { config } from "./site.js";

/** A curve of means over a few steps, whose points are no figures of a run. */
export const isOfSteps = (name) => config.ofSteps.includes(name);

/** "test loss"; "loss (last batches)" for the last point of a curve that stands among figures of whole runs. */
export const figureName = (name) => (isOfSteps(name) ? `${metricName(name)} (${config.lastSteps})` : metricName(name));
