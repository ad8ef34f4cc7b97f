// A subject's history: cost and denials as bars, with the limit that held above them, and the same as a table.

import { get } from "./api.js";
import { chart } from "./chart.js";
import { choice, el } from "./dom.js";
import { problem } from "./forms.js";
import { number, time } from "./format.js";
import { table } from "./table.js";

const SPANS = { hour: { seconds: 3600, count: 48, caption: "Cost by hour, the last two days" }, day: { seconds: 86_400, count: 30, caption: "Cost by day, the last 30 days" } };

/// `limitOf(granularity)` is the limit to compare with, or null.
export function history(path, limitOf, signal, file) {
  const place = el("div", {});
  let granularity = "hour";
  let ending = null;

  async function load() {
    const { seconds, count, caption } = SPANS[granularity];
    const last = Math.floor(Date.now() / 1000 / seconds) * seconds;
    const first = last - (count - 1) * seconds;
    const query = { granularity, from: new Date(first * 1000).toISOString(), to: new Date((last + seconds) * 1000).toISOString() };
    const { items } = await get(path, query, signal);
    ending?.abort();
    ending = new AbortController();
    signal.addEventListener("abort", () => ending.abort(), { once: true });
    const limit = limitOf(granularity);
    const xs = Array.from({ length: count }, (_, place) => first + place * seconds);
    const known = new Map(items.map((item) => [Date.parse(item.start) / 1000, item]));
    const column = (name) => xs.map((at) => known.get(at)?.[name] ?? 0);
    const series = [{ name: "Cost", bars: true, colour: "--allowed" }, { name: "Denied checks", colour: "--denied" }];
    const columns = [xs, column("cost"), column("denied")];
    if (limit !== null) {
      series.push({ name: "Limit now", colour: "--muted", dash: true });
      columns.push(xs.map(() => limit));
    }
    const made = chart({
      caption, series, signal: ending.signal,
      summary: ([, cost, denied]) => `${number(total(cost))} charged, ${number(total(denied))} checks denied`,
    });
    place.replaceChildren(made.node, el("details", {}, el("summary", {}, "As a table"), list(items, granularity, file)));
    made.show(...columns);
  }

  const again = () => load().catch((error) => {
    if (!signal.aborted) place.replaceChildren(problem(error));
  });
  const node = el("div", {}, choice("By", [["hour", "By hour"], ["day", "By day"]], granularity, (value) => {
    granularity = value;
    again();
  }), place);
  return { node, load: again };
}

function list(items, granularity, file) {
  const amount = (name, field) => ({ name, number: true, cell: (row) => number(row[field]), value: (row) => row[field] });
  return table({
    caption: `History by ${granularity}`, file: `${file}-by-${granularity}`, rows: [...items].reverse(), empty: "Nothing was used in this time.",
    columns: [
      { name: "Start", cell: (row) => time(row.start), value: (row) => row.start },
      amount("Requests", "requests"), amount("Cost", "cost"), amount("Denied", "denied"),
    ],
  });
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);
