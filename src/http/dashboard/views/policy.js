// Tiers and what endpoints cost: shown as they are in force, and set.

import { get, put, remove, segment } from "../api.js";
import { confirmed, el, section } from "../dom.js";
import { outcome } from "../forms.js";
import { number } from "../format.js";
import { table } from "../table.js";
import { costsForm } from "../costs_form.js";
import { tierForm } from "../tier_form.js";

export const title = "Tiers and costs";

export async function show(content, signal) {
  const told = outcome();
  const [tiers, editor, costs] = [el("div", {}), el("div", {}), el("div", {})];

  async function load() {
    const [known, endpoints] = await Promise.all([get("api/v2/admin/tiers", {}, signal), get("api/v2/admin/endpoints", {}, signal)]);
    tiers.replaceChildren(list(known.items));
    costs.replaceChildren(costsForm(endpoints.costs, async (rows) => {
      await put("api/v2/admin/endpoints", { costs: rows });
      await load();
    }), saved(endpoints.costs));
  }

  async function edit(name) {
    // Read by its own address, so that nobody's change in between is written over.
    const tier = name ? await get(`api/v2/admin/tiers/${segment(name)}`, {}, signal) : null;
    const close = () => editor.replaceChildren();
    const made = section(tier ? `Tier ${tier.name}` : "New tier", tierForm(tier, async (asked) => {
      await put(`api/v2/admin/tiers/${segment(asked.name)}`, asked);
      await load();
      return `The tier ${asked.name} holds as it stands here.`;
    }, close));
    editor.replaceChildren(made);
    made.scrollIntoView({ block: "nearest" });
    made.querySelector("input").focus();
  }

  async function take(name) {
    if (!(await confirmed(`Remove the tier ${name} as it was set here?`, "Remove"))) return;
    try {
      await remove(`api/v2/admin/tiers/${segment(name)}`);
      told.done(`The tier ${name} is removed.`);
      await load();
    } catch (error) {
      told.failed(error);
    }
  }

  const guarded = (name) => edit(name).catch((error) => told.failed(error));
  content.append(told.node, tiers,
    el("div", { class: "actions" }, el("button", { type: "button", class: "button", onclick: () => guarded(null) }, "New tier")),
    editor, section("What endpoints cost", el("p", { class: "note" }, "The longest path that fits decides, on whole segments; any other path costs 1."), costs));
  await load();

  function list(rows) {
    return table({
      caption: "Tiers", file: "tiers", rows,
      columns: [
        { name: "Tier", cell: (row) => row.name },
        { name: "Limits", wide: true, sort: false, cell: (row) => el("ul", { class: "plain" }, row.limits.map((limit) => el("li", {}, inWords(limit)))), value: (row) => row.limits.map(inWords).join("; ") },
        { name: "Requests at once", number: true, cell: (row) => number(row.concurrent_requests), value: (row) => row.concurrent_requests },
        { name: "WebSockets", number: true, cell: (row) => number(row.concurrent_websockets), value: (row) => row.concurrent_websockets },
        { name: "", sort: false, saved: false, cell: (row) => el("span", { class: "actions" },
          el("button", { type: "button", class: "button small", "aria-label": `Change the tier ${row.name}`, onclick: () => guarded(row.name) }, "Change"),
          el("button", { type: "button", class: "button small", "aria-label": `Remove the tier ${row.name}`, onclick: () => take(row.name) }, "Remove")) },
      ],
    });
  }
}

function saved(rows) {
  return el("details", {}, el("summary", {}, "As a table"), table({
    caption: "Endpoint costs", file: "endpoint-costs", rows, empty: "Every path costs 1.",
    columns: [
      { name: "Path", wide: true, cell: (row) => row.path },
      { name: "Methods", cell: (row) => row.methods.join(" ") || "all" },
      { name: "Cost", number: true, cell: (row) => number(row.cost), value: (row) => row.cost },
    ],
  }));
}

const ALGORITHMS = { fixed_window: "fixed window", sliding_window_log: "sliding log", sliding_window_counter: "sliding counter", token_bucket: "token bucket" };

function inWords(limit) {
  const window = limit.window ? `${limit.window === "hour" ? "an" : "a"} ${limit.window}` : `in ${number(limit.period_seconds)} s`;
  const burst = limit.burst ? `, up to ${number(limit.burst)} at once` : "";
  return `${limit.name}: ${number(limit.requests)} ${window}${burst}, ${ALGORITHMS[limit.algorithm]}${limit.enforce === false ? ", never denies" : ""}`;
}
