// Overrides: those in force, the ones that end soonest first, and those that have ended.

import { get, remove, segment } from "../api.js";
import { choice, confirmed, el } from "../dom.js";
import { outcome, problem } from "../forms.js";
import { number, timeAndDistance, time } from "../format.js";
import * as feed from "../live.js";
import { table } from "../table.js";

export const title = "Overrides";

export async function show(content, signal) {
  const place = el("div", {});
  const told = outcome();
  let state = "active";

  async function load(after = null, before = []) {
    const { items, next } = await get("api/v2/admin/overrides", { state, limit: 100, after }, signal);
    const rows = [...before, ...items];
    place.replaceChildren(list(rows, state, take),
      next !== null ? el("button", { type: "button", class: "button more", onclick: () => again(next, rows) }, "Show more") : "");
  }
  const again = (after, before) => load(after, before).catch((error) => {
    if (!signal.aborted) place.replaceChildren(problem(error));
  });

  async function take(user) {
    if (!(await confirmed(`Remove the override of ${user}? Their tier's own limits hold at once.`, "Remove"))) return;
    try {
      await remove(`api/v2/admin/quotas/${segment(user)}`);
      told.done(`The override of ${user} is removed.`);
      await again();
    } catch (error) {
      told.failed(error);
    }
  }

  content.append(
    choice("State", [["active", "In force"], ["expired", "Ended"]], state, (value) => {
      state = value;
      again();
    }),
    told.node, place);
  await load();
  for (const event of ["user.changed", "users.changed"]) feed.live.addEventListener(event, () => again(), { signal });
}

function list(rows, state, take) {
  return table({
    caption: state === "active" ? "Overrides in force" : "Overrides that have ended",
    file: `overrides-${state}`,
    rows,
    empty: state === "active" ? "No override is in force. One is set on a user's page." : "None has ended without being removed.",
    columns: [
      { name: "User", wide: true, cell: (row) => el("a", { href: `#/user/${encodeURIComponent(row.user_id)}` }, row.user_id), value: (row) => row.user_id },
      { name: "Per hour", number: true, cell: (row) => number(row.custom_requests_per_hour), value: (row) => row.custom_requests_per_hour },
      { name: "Per day", number: true, cell: (row) => number(row.custom_requests_per_day), value: (row) => row.custom_requests_per_day },
      { name: "Ends", cell: (row) => (row.expires_at ? timeAndDistance(row.expires_at) : "when removed"), value: (row) => row.expires_at },
      { name: "Since", cell: (row) => time(row.set_at), value: (row) => row.set_at },
      { name: "Reason", wide: true, cell: (row) => row.reason ?? "" },
      { name: "", sort: false, saved: false, cell: (row) => el("button", { type: "button", class: "button small", "aria-label": `Remove the override of ${row.user_id}`, onclick: () => take(row.user_id) }, "Remove") },
    ],
  });
}
