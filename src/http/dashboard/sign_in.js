// Asks for a credential, and tries it before the page goes on.

import { setCredential } from "./api.js";
import { el } from "./dom.js";
import { field, form } from "./forms.js";

/// `attempt()` asks the service something that the credential must allow; `refused(error)` says more where it did not.
export function signIn(main, { title, lead, label, attempt, entered, refused, notice }) {
  const node = form(
    [field(label, "credential", { type: "password", required: true, spellcheck: "false", autocapitalize: "off" },
      { hint: "It stays in this page's memory until you reload or sign out; it is never stored." })],
    "Sign in",
    async ({ credential }) => {
      if (!credential.trim()) throw new Error("Type or paste it first.");
      setCredential(credential);
      try {
        await attempt();
      } catch (error) {
        setCredential(null);
        const more = refused?.(error);
        if (more) error.message = `${error.message} – ${more}`;
        throw error;
      }
      entered();
    },
  );
  main.replaceChildren(el("div", { class: "sign-in card" },
    el("h1", { tabindex: "-1" }, title), el("p", { class: "lead" }, lead),
    notice && el("p", { class: "problem", role: "alert" }, notice), node));
  node.querySelector("input").focus();
}

/// Why a credential did not do, beyond what the service says.
export function hintFor(error) {
  if (error.status === 401) return "Look whether it was copied whole, and whether it has ended or was revoked.";
  return null;
}
