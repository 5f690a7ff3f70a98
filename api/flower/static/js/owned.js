// The owner of a data set or model, and whether this key may change it.

import { config } from "./site.js";

/**
 * Return "yours", "owner: anna", or null without an owner.
 * @param {Owned} owned
 */
export const whose = ({ owner, yours }) => (yours ? "yours" : owner ? `owner: ${owner}` : null);

/**
 * Return whether to show buttons that change it.
 * @param {Owned} owned
 */
export const mayChange = ({ may_change: may }) => may && !config.readOnly;
