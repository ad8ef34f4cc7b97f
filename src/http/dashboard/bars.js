// A limit as a bar: what is used, what is left, and exactly when it is whole again.

import { el } from "./dom.js";
import { fromNow, number, time } from "./format.js";

export function bar({ name, limit, used, remaining, reset_at, enforce = true }) {
  const share = limit > 0 ? Math.min(1, used / limit) : 1;
  const state = remaining === 0 ? "spent" : share >= 0.8 ? "near" : "well";
  return el("div", { class: `limit limit-${enforce ? state : "shown"}` },
    el("div", { class: "limit-head" },
      el("strong", {}, name), !enforce && el("span", { class: "note" }, "counted, never denies"),
      el("span", { class: "limit-left" }, el("span", { class: "limit-number" }, number(remaining)), ` of ${number(limit)} left`)),
    el("div", {
      class: "limit-bar", role: "meter", "aria-label": `${name}: used`, "aria-valuemin": "0", "aria-valuemax": String(limit),
      "aria-valuenow": String(Math.min(used, limit)), "aria-valuetext": `${number(used)} of ${number(limit)} used`,
    }, el("span", { style: { width: `${100 * share}%` } })),
    el("p", { class: "limit-foot note" },
      `${number(used)} used`, reset_at && (used > 0 ? [" · whole again ", time(reset_at), ` (${fromNow(reset_at)})`] : " · nothing to reset")));
}

/// The limits of a quota and its slots for requests.
export function bars(quota) {
  const slots = {
    name: "concurrent requests", limit: quota.concurrent_requests_limit, used: quota.concurrent_requests_used,
    remaining: Math.max(0, quota.concurrent_requests_limit - quota.concurrent_requests_used),
  };
  return el("div", { class: "limits" }, quota.limits.map(bar), bar(slots));
}
