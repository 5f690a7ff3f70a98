// Formats numbers, sizes and times.

/**
 * 0.03117 -> "0.0312", 1234567 -> "1,234,567", 1e-7 -> "1.00e-7".
 * @param {unknown} value
 * @param {number} digits
 */
export function number(value, digits = 4) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
  if (size >= 1000) return value.toLocaleString("en-US", { maximumFractionDigits: 1 });
  return String(Number(value.toPrecision(digits)));
}

/** @param {string} name */
export const words = (name) => name.replaceAll("_", " ");

/** @param {unknown} value */
export function bytes(value) {
  if (typeof value !== "number") return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/**
 * 3.2 -> "3 s", 75 -> "1 min 15 s", 7300 -> "2 h 1 min", 200000 -> "2 d 7 h".
 * @param {unknown} seconds
 */
export function duration(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  /** @type {[number, string][]} */
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

/**
 * @param {string} from
 * @param {string} to
 */
export const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

/** @type {[number, string][]} */
const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/**
 * "just now", "5 min ago", "in 2 h", "3 d ago": one unit, because the exact time is in the title.
 * @param {string} time
 * @param {number} now
 */
export function age(time, now = Date.now()) {
  const past = (now - Date.parse(time)) / 1000;
  const size = Math.abs(past);
  if (size < 5) return "just now";
  const [unit, name] = UNITS.find(([length]) => size >= length) ?? UNITS[0];
  const text = `${Math.floor(size / unit)} ${name}`;
  return past >= 0 ? `${text} ago` : `in ${text}`;
}

/** @param {string | number} time */
export const exact = (time) => new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
