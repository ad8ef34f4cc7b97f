// Charts over time, drawn by uPlot. Colours come from the style sheet, so that they follow the reader's choice of dark or light.

import { el, freshId } from "./dom.js";
import { compact } from "./format.js";

const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"];

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/// A chart with a caption. `series`: [{name, colour, bars, dash}], `colour` being the name of a property of the style sheet.
/// Answers {node, show(xs, ...ys)}; it stops watching its size when `signal` is aborted.
export function chart({ caption, series, height = 220, signal, summary }) {
  const id = freshId("chart");
  const place = el("div", { class: "chart", role: "img", "aria-labelledby": id });
  const node = el("figure", {}, el("figcaption", { id }, caption), place);
  let data = [[], ...series.map(() => [])];
  let plot = null;

  function draw() {
    plot?.destroy();
    plot = new window.uPlot(options(series, place.clientWidth || 300, height), data, place);
  }

  const sizes = new ResizeObserver(() => {
    if (!plot) draw();
    else if (place.clientWidth > 0) plot.setSize({ width: place.clientWidth, height });
  });
  sizes.observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
  signal?.addEventListener("abort", () => {
    sizes.disconnect();
    plot?.destroy();
  });

  return {
    node,
    show(...columns) {
      data = columns;
      plot?.setData(data);
      if (summary) place.setAttribute("aria-label", `${caption}: ${summary(columns)}`);
      if (summary) place.removeAttribute("aria-labelledby");
    },
  };
}

function options(series, width, height) {
  const [text, grid] = [colour("--muted"), colour("--line")];
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  return {
    width,
    height,
    cursor: { points: { size: 7 }, drag: { x: false, y: false } },
    legend: { live: true },
    scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(1, (high ?? 0) * 1.1)] } },
    axes: [
      { ...axis, space: 70, values: hours },
      { ...axis, size: 56, values: (_, values) => values.map((value) => (Number.isInteger(value) ? compact(value) : "")) },
    ],
    series: [
      { label: "Time", value: (_, seconds) => (seconds === null ? "–" : new Date(seconds * 1000).toLocaleString("en-GB")) },
      ...series.map((one, place) => drawn(one, place)),
    ],
  };
}

function drawn(one, place) {
  const stroke = colour(one.colour ?? COLOURS[place % COLOURS.length]);
  return {
    label: one.name,
    stroke,
    width: one.bars ? 0 : 2,
    dash: one.dash && [6, 5],
    fill: one.bars ? stroke : undefined,
    paths: one.bars ? window.uPlot.paths.bars({ size: [0.7, 40], radius: 0.15 }) : undefined,
    points: { show: false },
    value: (_, value) => (value === null || value === undefined ? "–" : compact(value)),
  };
}

/// 24-hour times, and the day where it turns.
function hours(plot, splits, _axis, _space, step) {
  const pad = (value) => String(value).padStart(2, "0");
  return splits.map((seconds) => {
    const at = new Date(seconds * 1000);
    if (step >= 86_400 || (at.getHours() === 0 && at.getMinutes() === 0)) return `${at.getDate()} ${at.toLocaleString("en", { month: "short" })}`;
    const minute = `${pad(at.getHours())}:${pad(at.getMinutes())}`;
    return step < 60 ? `${minute}:${pad(at.getSeconds())}` : minute;
  });
}
