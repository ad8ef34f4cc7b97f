// What the stream has told: the last minutes second by second, and the latest decisions. It is kept while the reader is at
// another view.

import { announce } from "./dom.js";
import { follow } from "./stream.js";

const SECONDS_KEPT = 300;
const SECONDS_SHOWN_MIN = 60;
const DECISIONS_KEPT = 200;
/// A screen reader is told of denials this often at most.
const ANNOUNCED_EACH_MS = 3000;

export const live = new EventTarget();

/// [{at, tallies: Map of "tier|source|allowed" to checks}], the oldest first.
export const seconds = [];
export const decisions = [];
/// Events that this page was too slow for.
export let lost = 0;

let unannounced = [];
let begun = 0;

export function start(signal, state) {
  seconds.length = 0;
  decisions.length = 0;
  lost = 0;
  begun = Math.floor(Date.now() / 1000);
  follow(signal, told, state);
  const announcing = setInterval(announceDenials, ANNOUNCED_EACH_MS);
  signal.addEventListener("abort", () => clearInterval(announcing));
}

function told(name, data) {
  if (name === "summary") count(data.decisions);
  if (name === "decision") {
    decisions.unshift(data);
    decisions.length = Math.min(decisions.length, DECISIONS_KEPT);
    if (!data.allowed) unannounced.push(data);
  }
  if (name === "lost") lost += data.events;
  live.dispatchEvent(new CustomEvent(name, { detail: data }));
}

function count(tallies) {
  const at = Math.floor(Date.now() / 1000);
  const checks = new Map(tallies.map((one) => [`${one.tier}|${one.source}|${one.allowed}`, one.checks]));
  seconds.push({ at, checks });
  while (seconds.length > 0 && seconds[0].at < at - SECONDS_KEPT) seconds.shift();
}

/// The last minutes, or what there is of them, as columns for a chart: the seconds, then for each name in `names` what `belongs(name, tier, source, allowed)`.
export function columns(names, belongs) {
  // The running second is not told yet.
  const now = Math.floor(Date.now() / 1000) - 1;
  const length = Math.min(SECONDS_KEPT, Math.max(SECONDS_SHOWN_MIN, now - begun));
  const xs = Array.from({ length }, (_, place) => now - length + 1 + place);
  const ys = names.map(() => new Array(length).fill(0));
  for (const { at, checks } of seconds) {
    const place = at - xs[0];
    if (place < 0 || place >= length) continue;
    for (const [key, number] of checks) {
      const [tier, source, allowed] = key.split("|");
      names.forEach((name, row) => {
        if (belongs(name, tier, source, allowed === "true")) ys[row][place] += number;
      });
    }
  }
  return [xs, ...ys];
}

function announceDenials() {
  if (unannounced.length === 0) return;
  const last = unannounced.at(-1);
  const denials = unannounced.length === 1 ? "1 denial" : `${unannounced.length} denials`;
  announce(`${denials}. Last: ${last.subject} by the limit ${last.denied_by}.`);
  unannounced = [];
}
