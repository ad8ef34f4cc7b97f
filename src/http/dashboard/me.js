// One's own quota: what is left, when it is whole again, and what was used.

import { get, setCredential } from "./api.js";
import { bars } from "./bars.js";
import { badge, el, section } from "./dom.js";
import { problem } from "./forms.js";
import { time } from "./format.js";
import { history } from "./history.js";
import { hintFor, signIn } from "./sign_in.js";

const main = document.getElementById("main");
const session = document.getElementById("session");
let staying = new AbortController();

function askForCredential(notice = null) {
  staying.abort();
  setCredential(null);
  session.hidden = true;
  signIn(main, {
    title: "My quota",
    lead: "See what is left, when it is whole again, and what was used.",
    label: "API key or token",
    notice,
    entered: enter,
    attempt: () => get("api/v2/users/me/quota"),
    refused: (error) => (error.status === 403 ? "Use a key that was made for a user, or a token." : hintFor(error)),
  });
}

async function enter() {
  staying = new AbortController();
  const { signal } = staying;
  session.replaceChildren(el("button", { type: "button", class: "button small", onclick: () => askForCredential() }, "Sign out"));
  session.hidden = false;
  const heading = el("h1", { tabindex: "-1" }, "My quota");
  const [about, limits, told] = [el("p", { class: "lead" }), el("div", {}), el("div", {})];
  let quota = null;
  const past = history("api/v2/users/me/quota/history", (granularity) => quota?.[`requests_${granularity}_limit`] ?? null, signal, "my-history");

  async function load() {
    try {
      quota = await get("api/v2/users/me/quota", {}, signal);
      about.replaceChildren(`${quota.user_id} `, badge(quota.tier, "accent"), " ",
        quota.quota_exceeded ? badge("a limit is spent", "denied") : "", " ",
        quota.override ? el("span", { class: "note" }, "An override holds ", quota.override.expires_at ? ["until ", time(quota.override.expires_at)] : "until it is removed", ".") : "");
      limits.replaceChildren(bars(quota));
      told.replaceChildren();
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) askForCredential("The credential does not hold any more.");
      else told.replaceChildren(problem(error));
    }
  }

  main.replaceChildren(heading, el("div", { class: "content narrow" }, about, told, section("What is left", limits), section("What was used", past.node)));
  heading.focus({ preventScroll: true });
  await load();
  await past.load();
  const turning = setInterval(load, 5000);
  signal.addEventListener("abort", () => clearInterval(turning));
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
askForCredential();
