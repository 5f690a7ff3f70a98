// Whose a data set or model is, and whether this key may change it.

import { config } from "./site.js";

/** "yours", "owner: anna"; null: nobody's. */
export const whose = ({ owner, yours }) => (yours ? "yours" : owner ? `owner: ${owner}` : null);

/** Buttons that would be refused are not shown. */
export const mayChange = ({ may_change: may }) => may && !config.readOnly;
