// One user: what is left, where the limits come from, what was used, and what an administrator may set.

import { get, post, segment } from "../api.js";
import { bars } from "../bars.js";
import { badge, el, section } from "../dom.js";
import { problem } from "../forms.js";
import { time } from "../format.js";
import { history } from "../history.js";
import * as feed from "../live.js";
import { overrideForm } from "../override_form.js";
import { leases, resetForm, tierForm } from "../user_actions.js";

export const title = "User";

const ORIGINS = {
  database: "set here, by an administrator",
  token: "from the user's token",
  default: "nobody set one: every user begins there",
};

export async function show(content, signal, user) {
  if (!user) throw new Error("The address names no user.");
  const path = `api/v2/admin/quotas/${segment(user)}`;
  const [about, limits] = [el("p", { class: "lead" }), el("div", {})];
  let known = null;

  async function load() {
    // A dry run leaves no trace, and says where the tier is from; in a batch a denial is no failed request.
    const checks = [{ user_id: user, dry_run: true, explain: true }];
    const [quota, { results: [check] }, overrides] = await Promise.all([
      get(path, {}, signal),
      post("api/v2/check/batch", { checks }, { signal }),
      get("api/v2/admin/overrides", { user_id: user }, signal),
    ]);
    known = { quota, origin: check.explanation?.tier_from ?? "default", override: overrides.items[0] ?? null };
    about.replaceChildren(...described(known));
    limits.replaceChildren(bars(quota));
    return known;
  }
  const again = () => load().then(() => override.show(known), (error) => {
    if (!signal.aborted) limits.replaceChildren(problem(error));
  });

  await load();
  const [tiers, entry] = await Promise.all([
    get("api/v2/admin/tiers", {}, signal),
    get(`api/v2/admin/users/${segment(user)}`, {}, signal),
  ]);
  const past = history(`${path}/history`, (granularity) => known.quota[`requests_${granularity}_limit`], signal, `history-${user}`);
  const override = overrideForm(user, known, again);
  const held = leases(user, signal, again);
  content.append(
    about,
    section("What is left", limits),
    section("What was used", past.node),
    el("div", { class: "columns" },
      section("Override", override.node),
      section("Tier", tierForm(user, entry, tiers.items.map((tier) => tier.name), again)),
      section("Reset", resetForm(user, known.quota, again))),
    held.node);
  await Promise.all([past.load(), held.load()]);
  watch(user, again, signal);
}

/// Looks again every few seconds, and at once where the user was decided about or changed.
function watch(user, again, signal) {
  const turning = setInterval(again, 5000);
  let waiting = null;
  const soon = () => {
    waiting ??= setTimeout(() => {
      waiting = null;
      again();
    }, 300);
  };
  feed.live.addEventListener("decision", ({ detail }) => detail.subject === `user:${user}` && soon(), { signal });
  feed.live.addEventListener("user.changed", ({ detail }) => detail.user_id === user && soon(), { signal });
  signal.addEventListener("abort", () => {
    clearInterval(turning);
    clearTimeout(waiting);
  });
}

function described({ quota, origin, override }) {
  const isActive = override?.state === "active";
  return [
    badge(quota.tier, "accent"), el("span", { class: "note" }, ` ${ORIGINS[origin] ?? origin} `),
    quota.quota_exceeded ? badge("a limit is spent", "denied") : "",
    isActive ? el("span", {}, " ", badge("override", "accent"), el("span", { class: "note" },
      " since ", time(override.set_at), override.expires_at ? [" until ", time(override.expires_at)] : " until it is removed",
      override.reason ? ` · ${override.reason}` : "")) : "",
  ];
}
