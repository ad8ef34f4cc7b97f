// How numbers and times are written. Times are the reader's own; UTC stands in the title of each.

import { el } from "./dom.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const exact = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

export const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const compact = (value) => (Math.abs(value) < 10_000 ? whole.format(value) : short.format(value));
export const rate = (value) => (value < 10 ? value.toFixed(1) : whole.format(value));
export const percent = (part, all) => (all > 0 ? `${((100 * part) / all).toFixed(part && part < all / 100 ? 2 : 0)} %` : "–");

/// Seconds in the two largest units that fit.
export function duration(seconds) {
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  let rest = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [name, length] of units) {
    const count = Math.floor(rest / length);
    rest -= count * length;
    if (count > 0) parts.push(`${count} ${name}`);
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

/// `in 3 h 5 min`, or how long ago it was.
export function fromNow(text) {
  const seconds = (Date.parse(text) - Date.now()) / 1000;
  return seconds >= 0 ? `in ${duration(seconds)}` : `${duration(-seconds)} ago`;
}

/// An instant, exact to the second.
export function time(text) {
  if (!text) return el("span", { class: "note" }, "never");
  return el("time", { datetime: text, title: `${text.replace("T", " ").replace("Z", "")} UTC` }, exact.format(new Date(text)));
}

/// An instant, and how far it is away.
export function timeAndDistance(text) {
  return el("span", { class: "when" }, time(text), text && el("span", { class: "note" }, fromNow(text)));
}

/// What a field of type datetime-local says, as the service takes it; null where it says nothing.
export function fromLocalField(text) {
  return text ? new Date(text).toISOString().replace(".000Z", "Z") : null;
}
