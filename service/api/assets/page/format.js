// Writes what the API tells as people read it.
import { make } from "./dom.js";

const UNITS = ["bytes", "kB", "MB", "GB", "TB", "PB"];
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const NEVER = /^0001-01-01T00:00:00/; // what Go writes for a time that was not set
const SHORT_DIGEST = 19; // `sha256:` and twelve digits, as Docker shows them

export const UNKNOWN = "unknown";

export function size(bytes) {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  let unit = 0;
  let left = bytes;
  while (left >= 1000 && unit < UNITS.length - 1) {
    left /= 1000;
    unit += 1;
  }
  return `${unit ? left.toPrecision(3) : left} ${UNITS[unit]}`;
}

/** Shows a time as the reader's clock does; as it was sent where it is none a browser knows. */
export function time(text) {
  if (!text || NEVER.test(text)) return UNKNOWN;
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return text;
  return make("time", { datetime: text, title: text }, MOMENT.format(moment));
}

export function clock(text) {
  return CLOCK.format(new Date(text));
}

export function seconds(number) {
  return number === null || number === undefined ? UNKNOWN : `${number.toFixed(2)} s`;
}

export function digest(text) {
  if (!text) return "none";
  return make("code", { title: text, class: "short" }, text.slice(0, SHORT_DIGEST));
}

export function platform({ os, architecture, variant }) {
  return [os, architecture, variant].filter(Boolean).join("/");
}

export function platforms(all) {
  return all.map(platform).join(", ") || "none";
}

export function yesOrNo(truth) {
  if (truth === null || truth === undefined) return UNKNOWN;
  return truth ? "yes" : "no";
}

/** Shows a state in words; the style only underlines them. */
export function state(word) {
  return make("span", { class: "state", "data-state": word }, word);
}

export function plural(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}
