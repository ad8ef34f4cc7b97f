// What is set for a user beside an override: the tier, a reset, and slots that are given back.

import { get, post, put, remove, segment } from "./api.js";
import { confirmed, el } from "./dom.js";
import { field, form, outcome, problem } from "./forms.js";
import { timeAndDistance } from "./format.js";
import { table } from "./table.js";

export function tierForm(user, entry, tiers, changed) {
  const options = [["", "none: by the token, else free"], ...tiers.map((name) => [name, name])];
  return form([
    field("Tier", "tier", { value: entry.tier ?? "" }, { options, hint: "Holds at once; what was used in the running windows carries over." }),
    entry.reset_schedule && el("p", { class: "note" }, "This user has a reset schedule of their own, which stays."),
  ], "Set the tier", async ({ tier }) => {
    await put(`api/v2/admin/users/${segment(user)}`, { tier: tier || null, reset_schedule: entry.reset_schedule });
    await changed();
    return tier ? `${user} is in the tier ${tier}.` : `${user} has no tier set here any more.`;
  });
}

export function resetForm(user, quota, changed) {
  const boxes = quota.limits.map(({ name }) => el("label", { class: "check" }, el("input", { type: "checkbox", name: "limit", value: name, checked: true }), name));
  const node = form([
    el("fieldset", {}, el("legend", {}, "Set what was used to nothing, of"), boxes),
    el("p", { class: "hint" }, "History and leases stay."),
  ], "Reset", async () => {
    const names = [...node.querySelectorAll(":checked")].map((box) => box.value);
    if (names.length === 0) throw new Error("Choose a limit.");
    if (!(await confirmed(`Set what ${user} has used of ${names.join(", ")} to nothing?`, "Reset"))) return null;
    await post(`api/v2/admin/quotas/${segment(user)}/reset`, { limits: names });
    await changed();
    return `Reset: ${names.join(", ")}.`;
  });
  return node;
}

/// Answers {node, load}.
export function leases(user, signal, changed) {
  const place = el("div", {});
  const told = outcome();

  async function load() {
    try {
      const { items } = await get("api/v2/admin/leases", { user_id: user, limit: 1000 }, signal);
      place.replaceChildren(list(items));
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(problem(error));
    }
  }

  async function release(lease) {
    if (!(await confirmed(`Give this slot of ${user} back? Whoever holds it is not told.`, "Give back"))) return;
    try {
      await remove(`api/v2/leases/${segment(lease.lease_id)}`);
      told.done("The slot is free.");
      await changed();
    } catch (error) {
      told.failed(error);
    }
    await load();
  }

  function list(items) {
    return table({
      caption: "Slots held", file: `leases-${user}`, rows: items, empty: "No slot is held now.",
      actions: [el("button", { type: "button", class: "button small", onclick: load }, "Look again")],
      columns: [
        { name: "For", cell: (row) => row.kind },
        { name: "Expires", cell: (row) => timeAndDistance(row.expires_at), value: (row) => row.expires_at },
        { name: "Lease", wide: true, cell: (row) => el("code", {}, row.lease_id), value: (row) => row.lease_id },
        { name: "", sort: false, saved: false, cell: (row) => el("button", { type: "button", class: "button small", onclick: () => release(row) }, "Give back") },
      ],
    });
  }

  return { node: el("div", {}, told.node, place), load };
}
