// API keys: listed, made, rotated, revoked. A key's text is shown once.

import { get, post, remove } from "../api.js";
import { badge, confirmed, el, section } from "../dom.js";
import { field, form, outcome } from "../forms.js";
import { fromLocalField, time } from "../format.js";
import { table } from "../table.js";

export const title = "API keys";

const ROLES = [["user", "user: reads its own quota"], ["service", "service: checks for anybody"], ["admin", "admin: may do all"]];

export async function show(content, signal) {
  const place = el("div", {});
  const told = outcome();
  const made = el("div", {});

  async function load() {
    const { items } = await get("api/v2/admin/keys", {}, signal);
    place.replaceChildren(list(items, { rotate, revoke }));
  }

  function shown(key) {
    made.replaceChildren(el("div", { class: "secret", role: "status" },
      el("p", {}, `This is the key “${key.name}”. It is shown this once: copy it now.`), el("code", { tabindex: "0" }, key.key)));
  }

  async function rotate(key) {
    if (!(await confirmed(`Make a new key in the place of “${key.name}”? The old one goes on for another day.`, "Rotate"))) return;
    try {
      shown(await post(`api/v2/admin/keys/${key.id}/rotate`));
      told.done(`There is a new key “${key.name}”, below. The old one ends within a day.`);
      await load();
    } catch (error) {
      told.failed(error);
    }
  }

  async function revoke(key) {
    if (!(await confirmed(`Revoke the key “${key.name}”? Whoever uses it is refused at once.`, "Revoke"))) return;
    try {
      await remove(`api/v2/admin/keys/${key.id}`);
      told.done(`The key “${key.name}” is revoked.`);
      await load();
    } catch (error) {
      told.failed(error);
    }
  }

  const making = form([
    el("div", { class: "fields" },
      field("Name", "name", { maxlength: "100", required: true }, { hint: "What it is for." }),
      field("Role", "role", { value: "service" }, { options: ROLES }),
      field("User id", "user_id", { maxlength: "128" }, { hint: "Whose it is; needed for the role user." }),
      field("Ends", "expires_at", { type: "datetime-local" }, { hint: "Empty: never." })),
  ], "Make a key", async ({ name, role, user_id, expires_at }) => {
    const key = await post("api/v2/admin/keys", { name, role, user_id: user_id || null, expires_at: fromLocalField(expires_at) });
    shown(key);
    making.reset();
    await load();
  });
  content.append(told.node, place, section("Make a key", making, made));
  await load();
}

function list(rows, { rotate, revoke }) {
  const state = (key) => (key.revoked_at ? "revoked" : key.expires_at && Date.parse(key.expires_at) <= Date.now() ? "ended" : "good");
  return table({
    caption: "Keys", file: "keys", rows, empty: "No key was made yet: you are here by the admin key of the settings.",
    columns: [
      { name: "Name", wide: true, cell: (row) => row.name },
      { name: "Role", cell: (row) => row.role },
      { name: "User", cell: (row) => row.user_id ?? "" },
      { name: "State", cell: (row) => badge(state(row), state(row) === "good" ? "allowed" : "plain"), value: state },
      { name: "Made", cell: (row) => time(row.created_at), value: (row) => row.created_at },
      { name: "Last used", cell: (row) => time(row.last_used_at), value: (row) => row.last_used_at },
      { name: "Ends", cell: (row) => time(row.expires_at), value: (row) => row.expires_at },
      { name: "Id", cell: (row) => el("code", {}, row.id), value: (row) => row.id },
      { name: "", sort: false, saved: false, cell: (row) => state(row) === "good" && el("div", { class: "actions" },
        !row.successor && button("Rotate", row, rotate), button("Revoke", row, revoke)) },
    ],
  });
}

function button(action, row, run) {
  return el("button", { type: "button", class: "button small", "aria-label": `${action} ${row.name}`, onclick: () => run(row) }, action);
}
