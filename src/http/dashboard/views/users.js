// Users that the books know, with search.

import { get } from "../api.js";
import { badge, el, freshId } from "../dom.js";
import { problem } from "../forms.js";
import { time } from "../format.js";
import { table } from "../table.js";

export const title = "Users";

const PAGE = 50;
/// A search may have to look at many users before it finds one: it goes on by itself so many times.
const PAGES_LOOKED_AT = 5;

export async function show(content, signal) {
  const id = freshId("search");
  const input = el("input", { id, type: "search", name: "search", autocomplete: "off", spellcheck: "false", maxlength: "128", placeholder: "Part of a user id" });
  const place = el("div", {});
  let asked = 0;

  async function load(after = null, before = []) {
    asked += 1;
    const turn = asked;
    const search = input.value;
    try {
      let [rows, next] = [before, after];
      for (let page = 0; page < PAGES_LOOKED_AT; page += 1) {
        const answer = await get("api/v2/admin/users", { search, limit: PAGE, after: next }, signal);
        // Another letter was typed meanwhile.
        if (turn !== asked) return;
        rows = [...rows, ...answer.items];
        next = answer.next;
        if (next === null || rows.length > before.length) break;
      }
      place.replaceChildren(...shown(rows, next, search, () => load(next, rows)));
    } catch (error) {
      if (!signal.aborted && turn === asked) place.replaceChildren(problem(error));
    }
  }

  let waiting = null;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => load(), 200);
  });
  const node = el("form", { class: "search", role: "search" },
    el("label", { for: id }, "Find a user"),
    el("div", { class: "search-line" }, input, el("button", { type: "submit", class: "button" }, "Open this id")),
    el("p", { class: "hint" }, "Any id can be opened, whether the books know it or not."));
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value) location.hash = `#/user/${encodeURIComponent(input.value)}`;
  });
  content.append(node, place);
  await load();
}

function shown(rows, next, search, more) {
  const columns = [
    { name: "User", wide: true, cell: (row) => el("a", { href: `#/user/${encodeURIComponent(row.user_id)}` }, row.user_id), value: (row) => row.user_id },
    { name: "Tier set", cell: (row) => row.tier ?? el("span", { class: "note" }, "by token, else free"), value: (row) => row.tier },
    { name: "Override", cell: (row) => (row.override ? badge("in force", "accent") : ""), value: (row) => (row.override ? "in force" : "") },
    { name: "Last active hour", cell: (row) => time(row.last_hour), value: (row) => row.last_hour },
  ];
  const empty = search ? `No user whose id has “${search}” in it was found.` : "No user is known yet: whoever is checked once is.";
  return [
    table({ caption: "Users", file: "users", rows, columns, empty }),
    next !== null ? el("button", { type: "button", class: "button more", onclick: more }, rows.length > 0 ? "Show more" : "Look further") : "",
  ];
}
