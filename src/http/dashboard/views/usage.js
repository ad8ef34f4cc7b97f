// What the whole system used: totals, tiers, and who used most.

import { get } from "../api.js";
import { choice, el, figure } from "../dom.js";
import { number, percent, time } from "../format.js";
import { table } from "../table.js";

export const title = "Usage";

const PERIODS = [["hour", "This hour"], ["day", "Today"], ["30d", "30 days"]];
const ORDERS = [["cost", "Cost"], ["requests", "Requests"], ["denied", "Denials"]];

const SHOWN = 100;

export async function show(content, signal) {
  const place = el("div", { class: "content" });
  let [period, by] = ["hour", "cost"];

  async function load() {
    const report = await get("api/v2/admin/quotas/usage", { period, by, top: SHOWN }, signal);
    place.replaceChildren(...shown(report));
  }
  const again = () => load().catch((error) => {
    if (!signal.aborted) place.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
  });

  content.append(
    el("div", { class: "controls" },
      choice("Period", PERIODS, period, (value) => {
        period = value;
        again();
      }),
      choice("Most by", ORDERS, by, (value) => {
        by = value;
        again();
      })),
    place);
  await load();
  const turning = setInterval(again, 10_000);
  signal.addEventListener("abort", () => clearInterval(turning));
}

function shown({ totals, tiers, top_users, top_ips, start }) {
  const amounts = [
    { name: "Requests", number: true, cell: (row) => number(row.requests), value: (row) => row.requests },
    { name: "Cost", number: true, cell: (row) => number(row.cost), value: (row) => row.cost },
    { name: "Denied", number: true, cell: (row) => number(row.denied), value: (row) => row.denied },
  ];
  const all = tiers.reduce((sum, tier) => sum + tier.cost, 0);
  return [
    el("p", { class: "note" }, "Since ", time(start), "; what the other instances have counted comes with their next flush."),
    el("dl", { class: "figures" },
      figure("Requests", number(totals.requests)), figure("Cost", number(totals.cost)),
      figure("Denied", number(totals.denied), percent(totals.denied, totals.requests + totals.denied), totals.denied > 0 ? "denied" : null),
      figure("Active users", number(totals.active_users))),
    table({
      caption: "By tier", file: "usage-by-tier", rows: tiers, empty: "Nothing was used in this period.",
      columns: [
        { name: "Tier", cell: (row) => row.tier },
        ...amounts,
        { name: "Active", number: true, cell: (row) => number(row.active_users), value: (row) => row.active_users },
        { name: "Share of cost", cell: (row) => share(row.cost, all), value: (row) => (all > 0 ? row.cost / all : 0) },
      ],
    }),
    table({
      caption: "Top users", file: "top-users", rows: top_users, empty: "No user used anything in this period.",
      columns: [
        { name: "User", wide: true, cell: (row) => el("a", { href: `#/user/${encodeURIComponent(row.user_id)}` }, row.user_id), value: (row) => row.user_id },
        { name: "Tier", cell: (row) => row.tier },
        ...amounts,
      ],
    }),
    table({
      caption: "Top addresses", file: "top-addresses", rows: top_ips, empty: "No anonymous caller used anything in this period.",
      columns: [{ name: "Address", cell: (row) => row.ip }, ...amounts],
    }),
  ];
}

function share(part, all) {
  const width = all > 0 ? `${(100 * part) / all}%` : "0%";
  return el("span", { class: "share" },
    el("span", { class: "share-bar", "aria-hidden": "true" }, el("span", { style: { width } })), percent(part, all));
}
