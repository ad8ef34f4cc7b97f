// A tier as a form: its limits one by one, and how much may run at once.

import { el, freshId } from "./dom.js";
import { field, form, wholeNumber } from "./forms.js";

const ALGORITHMS = [["fixed_window", "fixed window"], ["sliding_window_log", "sliding log"], ["sliding_window_counter", "sliding counter"], ["token_bucket", "token bucket"]];
const WINDOWS = [["hour", "hour"], ["day", "day"], ["week", "week"], ["month", "month"], ["", "so many seconds"]];

/// `save(tier)` answers what to say; `close` is called when the form is put away.
export function tierForm(tier, save, close) {
  const rows = el("div", { class: "rows" });
  const add = (limit) => rows.append(limitRow(limit));
  (tier?.limits ?? [{ name: "hour", algorithm: "fixed_window", window: "hour", requests: 100 }]).forEach(add);
  const node = form([
    el("div", { class: "fields" },
      field("Name", "name", { value: tier?.name ?? "", readonly: Boolean(tier), required: true }, { hint: "Letters a to z, digits, _ and -." }),
      field("Requests at once", "concurrent_requests", { inputmode: "numeric", value: tier?.concurrent_requests ?? "" }, { hint: "Empty: as many as can be." }),
      field("WebSockets at once", "concurrent_websockets", { inputmode: "numeric", value: tier?.concurrent_websockets ?? "" }, { hint: "Empty: as many as can be." })),
    el("h3", {}, "Limits"), rows,
    el("button", { type: "button", class: "button small", onclick: () => add({ name: "", algorithm: "fixed_window", window: "hour" }) }, "Add a limit"),
  ], "Save the tier", ({ name, concurrent_requests, concurrent_websockets }) => {
    const asked = { name: name.trim(), limits: [...rows.children].map(limitOf), reset_schedule: tier?.reset_schedule ?? null };
    if (concurrent_requests.trim()) asked.concurrent_requests = wholeNumber(concurrent_requests);
    if (concurrent_websockets.trim()) asked.concurrent_websockets = wholeNumber(concurrent_websockets);
    return save(asked);
  }, { more: [el("button", { type: "button", class: "button", onclick: close }, "Close")] });
  return node;
}

function limitRow(limit) {
  const id = freshId("limit");
  const part = (name, label, control) => el("div", { class: "field" }, el("label", { for: `${id}-${name}` }, label), control);
  const input = (name, label, value) => part(name, label, el("input", { id: `${id}-${name}`, "data-part": name, value: value ?? "", autocomplete: "off", inputmode: name === "name" ? null : "numeric" }));
  const select = (name, label, options, value) => {
    const control = el("select", { id: `${id}-${name}`, "data-part": name }, options.map(([key, text]) => el("option", { value: key }, text)));
    control.value = value;
    return part(name, label, control);
  };
  const enforce = el("input", { type: "checkbox", "data-part": "enforce" });
  enforce.checked = limit.enforce !== false;
  const row = el("fieldset", { class: "row" },
    el("legend", { class: "visually-hidden" }, `Limit ${limit.name || "new"}`),
    input("name", "Name", limit.name), select("algorithm", "Algorithm", ALGORITHMS, limit.algorithm),
    input("requests", "Requests", limit.requests), select("window", "A", WINDOWS, limit.window ?? ""),
    input("period_seconds", "Seconds", limit.period_seconds), input("burst", "Burst", limit.burst),
    el("label", { class: "check" }, enforce, "denies"),
    el("button", { type: "button", class: "button small", onclick: () => row.remove() }, "Remove"));
  const settle = () => {
    const of = (name) => row.querySelector(`[data-part=${name}]`);
    const isFixed = of("algorithm").value === "fixed_window";
    of("window").closest(".field").hidden = !isFixed;
    of("period_seconds").closest(".field").hidden = isFixed && of("window").value !== "";
    of("burst").closest(".field").hidden = of("algorithm").value !== "token_bucket";
  };
  row.addEventListener("change", settle);
  settle();
  return row;
}

function limitOf(row) {
  const limit = {};
  for (const control of row.querySelectorAll("[data-part]")) {
    const name = control.dataset.part;
    if (name === "enforce") {
      if (!control.checked) limit.enforce = false;
    } else if (!control.closest(".field").hidden && control.value.trim() !== "") {
      limit[name] = ["requests", "period_seconds", "burst"].includes(name) ? wholeNumber(control.value) : control.value.trim();
    }
  }
  return limit;
}
