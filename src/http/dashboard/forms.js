// Forms: fields with labels, and the service's refusals beside the fields that are to blame.

import { el, freshId } from "./dom.js";

/// A labelled field. `make` are the attributes of the input; `options` [[value, text]] make it a choice.
export function field(label, name, make = {}, { hint, options } = {}) {
  const id = freshId(name);
  const [hintId, errorId] = [`${id}-hint`, `${id}-error`];
  const described = [hint && hintId, errorId].filter(Boolean).join(" ");
  const common = { id, name, "aria-describedby": described };
  const input = options
    ? el("select", { ...common, ...make }, options.map(([value, text]) => el("option", { value }, text)))
    : el("input", { type: "text", autocomplete: "off", ...common, ...make });
  if (options && make.value !== undefined) input.value = make.value;
  return el("div", { class: "field" },
    el("label", { for: id }, label), input,
    hint && el("p", { class: "hint", id: hintId }, hint),
    el("p", { class: "field-error", id: errorId }));
}

/// A place for what went wrong or right with a form as a whole.
export function outcome() {
  const node = el("div", { class: "outcome" });
  return {
    node,
    done(text) {
      node.replaceChildren(el("p", { class: "done", role: "status" }, text));
    },
    failed(error) {
      node.replaceChildren(problem(error));
    },
    clear() {
      node.replaceChildren();
    },
  };
}

/// An error in words.
export function problem(error) {
  const fields = error.fields ?? [];
  const lines = fields.length > 0 ? fields.map(({ field: name, message }) => `${name}: ${message}`) : [error.message];
  const title = error.problem?.title;
  return el("div", { class: "problem", role: "alert" },
    title && el("strong", {}, title),
    lines.map((line) => el("p", {}, line)),
    error.status === 412 && el("p", {}, "Somebody else has changed this meanwhile. Look at it as it is now, then try again."));
}

/// Shows refusals beside the fields of their names; the first of them takes the focus.
export function markFields(form, error) {
  for (const input of form.querySelectorAll("[name]")) {
    const told = (error?.fields ?? []).filter((one) => one.field === input.name);
    const place = document.getElementById(`${input.id}-error`);
    if (place) place.textContent = told.map((one) => one.message).join("; ");
    if (told.length > 0) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
  form.querySelector("[aria-invalid]")?.focus();
}

/// A form that calls `send(values)` and tells what came of it. `send` answers what to say, or throws.
export function form(children, action, send, { danger = false, more = [] } = {}) {
  const told = outcome();
  const button = el("button", { type: "submit", class: danger ? "button danger" : "button primary" }, action);
  const node = el("form", { novalidate: true }, children, el("div", { class: "actions" }, button, more), told.node);
  node.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    told.clear();
    markFields(node, null);
    try {
      const words = await send(Object.fromEntries(new FormData(node)));
      if (words) told.done(words);
    } catch (error) {
      if (error.name === "AbortError") return;
      told.failed(error);
      markFields(node, error);
    } finally {
      button.disabled = false;
    }
  });
  return node;
}

/// A whole number of a field, or null where it is empty. What is no number goes to the service as it is, which says so.
export function wholeNumber(text) {
  const trimmed = (text ?? "").trim();
  if (trimmed === "") return null;
  return /^\d{1,15}$/.test(trimmed) ? Number(trimmed) : trimmed;
}
