// Who changed what, when, from where; and how it was before.

import { get } from "../api.js";
import { el } from "../dom.js";
import { problem } from "../forms.js";
import { time } from "../format.js";
import * as feed from "../live.js";
import { table } from "../table.js";

export const title = "Audit";

export async function show(content, signal) {
  const place = el("div", {});

  async function load(before = null, above = []) {
    const { items, next } = await get("api/v2/admin/audit", { limit: 100, before }, signal);
    const rows = [...above, ...items];
    place.replaceChildren(list(rows),
      next !== null ? el("button", { type: "button", class: "button more", onclick: () => again(next, rows) }, "Show older") : "");
  }
  const again = (before, above) => load(before, above).catch((error) => {
    if (!signal.aborted) place.replaceChildren(problem(error));
  });

  content.append(place);
  await load();
  for (const event of ["user.changed", "users.changed", "keys.changed", "policy.reloaded"]) {
    feed.live.addEventListener(event, () => {
      // Who has opened an entry is reading it.
      if (!place.querySelector("details[open]")) again();
    }, { signal });
  }
}

function list(rows) {
  return table({
    caption: "Changes, the newest first", file: "audit", rows, empty: "Nothing was changed yet.",
    columns: [
      { name: "When", cell: (row) => time(row.at), value: (row) => row.at },
      { name: "Who", cell: (row) => row.actor },
      { name: "From", cell: (row) => row.address ?? "" },
      { name: "Did", cell: (row) => row.action },
      { name: "To", wide: true, cell: (row) => target(row.target), value: (row) => row.target },
      { name: "Change", sort: false, cell: change, value: (row) => JSON.stringify({ before: row.before, after: row.after }) },
    ],
  });
}

function target(text) {
  if (!text.startsWith("user:")) return text;
  return el("a", { href: `#/user/${encodeURIComponent(text.slice(5))}` }, text);
}

function change({ before, after }) {
  const fields = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  const differ = fields.filter((name) => JSON.stringify(before?.[name]) !== JSON.stringify(after?.[name]));
  const text = (value) => (value === undefined || value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
  return el("details", {},
    el("summary", {}, before === null ? "new" : after === null ? "removed" : differ.join(", ") || "as it was"),
    el("dl", { class: "changes" }, differ.flatMap((name) => [el("dt", {}, name), el("dd", {}, `${text(before?.[name])} → ${text(after?.[name])}`)])));
}
