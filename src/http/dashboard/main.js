// The dashboard: signs in, shows the view that the address names, and keeps the live stream.

import { get, hasCredential, setCredential } from "./api.js";
import { el } from "./dom.js";
import { problem } from "./forms.js";
import { start } from "./live.js";
import { hintFor, signIn } from "./sign_in.js";
import * as audit from "./views/audit.js";
import * as health from "./views/health.js";
import * as keys from "./views/keys.js";
import * as liveView from "./views/live.js";
import * as overrides from "./views/overrides.js";
import * as policy from "./views/policy.js";
import * as usage from "./views/usage.js";
import * as user from "./views/user.js";
import * as users from "./views/users.js";
import * as webhooks from "./views/webhooks.js";

/// Each has a title, and `show(main, signal, parameter)`. What has no name in the navigation is reached from other views.
const VIEWS = {
  live: { name: "Live", view: liveView },
  usage: { name: "Usage", view: usage },
  users: { name: "Users", view: users },
  user: { view: user, under: "users" },
  overrides: { name: "Overrides", view: overrides },
  policy: { name: "Tiers and costs", view: policy },
  keys: { name: "Keys", view: keys },
  webhooks: { name: "Webhooks", view: webhooks },
  audit: { name: "Audit", view: audit },
  health: { name: "Health", view: health },
};

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const session = document.getElementById("session");
const status = el("span", { class: "status", role: "status" });
let signedIn = null;
let leaving = new AbortController();

function askForKey(notice = null) {
  leaving.abort();
  signedIn?.abort();
  setCredential(null);
  nav.hidden = true;
  session.hidden = true;
  document.title = "Sign in · quotad";
  signIn(main, {
    title: "Sign in",
    lead: "See what is decided as it is decided, and set who may use how much.",
    label: "Admin key",
    notice,
    entered: enter,
    attempt: () => get("api/v2/admin/audit", { limit: 1 }),
    refused: (error) => (error.status === 403 ? "This page needs a key of the role admin. Your own quota is shown at /me." : hintFor(error)),
  });
}

function enter() {
  signedIn = new AbortController();
  nav.replaceChildren(...Object.entries(VIEWS).filter(([, { name }]) => name).map(([path, { name }]) =>
    el("a", { href: `#/${path}`, "data-view": path }, name)));
  session.replaceChildren(status, el("button", { type: "button", class: "button small", onclick: () => askForKey() }, "Sign out"));
  nav.hidden = false;
  session.hidden = false;
  start(signedIn.signal, showStatus);
  route();
}

const STATES = { connecting: "Connecting", live: "Live", broken: "Not live" };

function showStatus(state, error) {
  if (error?.status === 401) return void askForKey("The key does not hold any more.");
  status.dataset.state = state;
  status.textContent = STATES[state];
  status.title = error?.message ?? "";
}

async function route() {
  if (!hasCredential()) return;
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const name = VIEWS[path] ? path : "live";
  const { view, under } = VIEWS[name];
  const parameter = rest.length > 0 ? decoded(rest.join("/")) : null;
  for (const link of nav.children) {
    if (link.dataset.view === (under ?? name)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = parameter ? `${view.title} ${parameter}` : view.title;
  document.title = `${title} · quotad`;
  const heading = el("h1", { tabindex: "-1" }, title);
  const content = el("div", { class: "content", "aria-busy": "true" });
  main.replaceChildren(heading, content);
  heading.focus({ preventScroll: true });
  scrollTo(0, 0);
  try {
    await view.show(content, signal, parameter);
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) askForKey("The key does not hold any more.");
    else content.replaceChildren(problem(error));
  } finally {
    content.removeAttribute("aria-busy");
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => {
  if (location.hash !== "#main") route();
});
// The link that skips the navigation must not leave the view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
askForKey();
