// Decisions as they are taken: how many, how many denied, by tier and by source, and the latest ones.

import { chart } from "../chart.js";
import { badge, choice, el, figure, section } from "../dom.js";
import { duration, number, percent, rate, time } from "../format.js";
import * as feed from "../live.js";

export const title = "Live decisions";

const LATEST = 50;
/// What the figures at the top look back on.
const MINUTE = 60;

const CUTS = {
  outcome: { names: ["allowed", "denied"], belongs: (name, _tier, _source, allowed) => (name === "allowed") === allowed },
  tier: { belongs: (name, tier) => name === tier },
  source: { belongs: (name, _tier, source) => name === source },
  "denied by tier": { belongs: (name, tier, _source, allowed) => !allowed && name === tier },
};

export function show(content, signal) {
  const figures = el("dl", { class: "figures" });
  const charts = el("div", { class: "chart-place" });
  const list = el("div", {});
  let cut = "outcome";
  let only = "all";
  let drawn = { key: "", chart: null };

  function names() {
    if (CUTS[cut].names) return CUTS[cut].names;
    const place = cut === "source" ? 1 : 0;
    const known = new Set(feed.seconds.flatMap(({ checks }) => [...checks.keys()].map((key) => key.split("|")[place])));
    return [...known].sort().slice(0, 6);
  }

  function draw() {
    const lines = names();
    const key = `${cut}:${lines.join()}`;
    if (drawn.key !== key) {
      const colours = { allowed: "--allowed", denied: "--denied" };
      drawn.end?.abort();
      const end = new AbortController();
      signal.addEventListener("abort", () => end.abort(), { once: true });
      const made = chart({
        caption: cut === "outcome" ? "Checks a second, at most the last five minutes" : `Checks a second by ${cut.replace("denied by tier", "tier, denied ones alone")}`,
        series: lines.map((name) => ({ name, colour: colours[name] })),
        signal: end.signal,
        summary: ([, ...ys]) => lines.map((name, row) => `${name} ${sum(ys[row].slice(-MINUTE))} in the last minute`).join(", "),
      });
      drawn = { key, chart: made, end };
      charts.replaceChildren(made.node);
    }
    const columns = feed.columns(lines, CUTS[cut].belongs);
    drawn.chart.show(...columns);
    showFigures(figures);
  }

  function showLatest() {
    const shown = feed.decisions.filter((one) => only === "all" || !one.allowed).slice(0, LATEST);
    list.replaceChildren(shown.length === 0
      ? el("p", { class: "empty" }, only === "all" ? "Nothing has been decided since this page was opened." : "Nothing has been denied since this page was opened.")
      : el("ol", { class: "decisions", "aria-label": "Latest decisions" }, shown.map(line)));
  }

  content.append(
    figures,
    el("section", { class: "card" },
      choice("Cut by", Object.keys(CUTS).map((name) => [name, name[0].toUpperCase() + name.slice(1)]), cut, (name) => {
        cut = name;
        draw();
      }),
      charts),
    section("Latest decisions",
      el("p", { class: "note" }, "At most 50 a second are shown; the counts above are of all of them."),
      choice("Show", [["all", "All"], ["denied", "Denied alone"]], only, (name) => {
        only = name;
        showLatest();
      }),
      list));
  draw();
  showLatest();
  feed.live.addEventListener("decision", throttled(showLatest, signal), { signal });
  const turning = setInterval(draw, 1000);
  signal.addEventListener("abort", () => clearInterval(turning));
}

function showFigures(place) {
  const [, allowed, denied, fallback] = feed.columns(["allowed", "denied", "fallback"],
    (name, _tier, source, was) => (name === "fallback" ? source === name : (name === "allowed") === was));
  const [all, refused] = [sum(allowed.slice(-MINUTE)) + sum(denied.slice(-MINUTE)), sum(denied.slice(-MINUTE))];
  const alone = sum(fallback.slice(-MINUTE));
  const last = (values) => sum(values.slice(-5)) / 5;
  place.replaceChildren(
    figure("Checks a second", rate(last(allowed) + last(denied)), "mean of five seconds"),
    figure("Checks in a minute", number(all)),
    figure("Denied in a minute", number(refused), percent(refused, all), refused > 0 ? "denied" : null),
    figure("Without Redis", number(alone), "in a minute, by the fallback", alone > 0 ? "denied" : null),
    feed.lost > 0 ? figure("Passed over", number(feed.lost), "events that came too fast for this page") : "");
}

function line(one) {
  const isUser = one.subject.startsWith("user:");
  const id = one.subject.slice(one.subject.indexOf(":") + 1);
  return el("li", { class: one.allowed ? "decision" : "decision decision-denied" },
    badge(one.allowed ? "allowed" : "denied", one.allowed ? "allowed" : "denied"),
    isUser ? el("a", { href: `#/user/${encodeURIComponent(id)}`, class: "subject" }, id) : el("span", { class: "subject" }, id),
    el("span", { class: "note" }, `${one.tier} · cost ${number(one.cost)} · ${one.source}`),
    el("span", { class: "decision-why" }, one.denied_by && `by ${one.denied_by}${one.retry_after ? `, room in ${duration(one.retry_after)}` : ""}`),
    el("span", { class: "decision-at note" }, time(one.at)));
}

const sum = (values) => values.reduce((all, value) => all + value, 0);

/// Calls it four times a second at most.
function throttled(call, signal) {
  let waiting = null;
  signal.addEventListener("abort", () => clearTimeout(waiting));
  return () => {
    waiting ??= setTimeout(() => {
      waiting = null;
      call();
    }, 250);
  };
}
