// Makes elements. Text is always text: nothing that the service or a user says is ever read as HTML.

/// el("a", {href, class, onclick, style: {width}}, ...children); what is null or false is left out.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(node, child);
    else if (child !== null && child !== undefined && child !== false) node.append(child);
  }
}

let made = 0;

/// An id that no other element of the page has.
export function freshId(name) {
  made += 1;
  return `${name}-${made}`;
}

/// Says something to a screen reader, without moving the focus.
export function announce(text) {
  const place = document.getElementById("announcer");
  if (place) place.textContent = text;
}

/// A short word with a colour of its own.
export function badge(text, kind = "plain") {
  return el("span", { class: `badge badge-${kind}` }, text);
}

/// A part of a page: a heading and what stands under it.
export function section(title, ...children) {
  const id = freshId("section");
  return el("section", { class: "card", "aria-labelledby": id }, el("h2", { id }, title), ...children);
}

/// A number that stands for itself, with its name and a note.
export function figure(name, value, note = null, kind = null) {
  return el(
    "div",
    { class: kind ? `figure figure-${kind}` : "figure" },
    el("dt", {}, name),
    el("dd", {}, el("span", { class: "figure-value" }, value), note && el("span", { class: "note" }, note)),
  );
}

/// A choice of one among a few, as buttons.
export function choice(label, options, chosen, pick) {
  const group = el("div", { class: "choice", role: "group", "aria-label": label });
  for (const [value, text] of options) {
    const button = el("button", { type: "button", "aria-pressed": String(value === chosen) }, text);
    button.addEventListener("click", () => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      pick(value);
    });
    group.append(button);
  }
  return group;
}

/// Asks before something is done that can't be taken back. Answers whether it was agreed to.
export function confirmed(question, action) {
  return new Promise((answer) => {
    const yes = el("button", { class: "button danger", value: "yes" }, action);
    const no = el("button", { class: "button", value: "no" }, "Cancel");
    const id = freshId("question");
    const dialog = el(
      "dialog",
      { "aria-labelledby": id },
      el("form", { method: "dialog" }, el("p", { id }, question), el("div", { class: "actions" }, no, yes)),
    );
    dialog.addEventListener("close", () => {
      answer(dialog.returnValue === "yes");
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });
}
