// Setting an override, with a look at what it would change before it is set.

import { put, remove, segment } from "./api.js";
import { confirmed, el } from "./dom.js";
import { field, form, problem, wholeNumber } from "./forms.js";
import { fromLocalField, number, time, timeAndDistance } from "./format.js";

const FIELDS = [["hour", "custom_requests_per_hour"], ["day", "custom_requests_per_day"]];

/// Answers {node, show(known)}; `changed` is called when one was set or removed.
export function overrideForm(user, known, changed) {
  const [now, preview] = [el("div", {}), el("div", { class: "preview", "aria-live": "polite" })];
  const path = `api/v2/admin/quotas/${segment(user)}`;
  let current = known;

  const taking = el("button", { type: "button", class: "button", onclick: take }, "Remove the override");
  const node = form([
    el("div", { class: "fields" },
      field("Requests an hour", "custom_requests_per_hour", { inputmode: "numeric" }, { hint: "Empty: the tier's own." }),
      field("Requests a day", "custom_requests_per_day", { inputmode: "numeric" }, { hint: "Empty: the tier's own." }),
      field("Ends", "expires_at", { type: "datetime-local", step: "1" }, { hint: "Your own time. Empty: holds until it is removed." }),
      field("Reason", "reason", { maxlength: "500" }, { hint: "Kept in the audit." })),
    preview,
  ], "Set the override", async (values) => {
    const asked = body(values);
    await put(path, asked);
    node.reset();
    look();
    await changed();
    return `The override holds since now${asked.expires_at ? ` until ${asked.expires_at.replace("T", " ").replace("Z", " UTC")}` : ""}.`;
  }, { more: [taking] });

  async function take() {
    if (!(await confirmed(`Remove the override of ${user}? Their tier's own limits hold at once.`, "Remove"))) return;
    try {
      await remove(path);
      await changed();
    } catch (error) {
      now.replaceChildren(problem(error));
    }
  }

  function look() {
    const asked = body(Object.fromEntries(new FormData(node)));
    preview.replaceChildren(...previewed(asked, current));
  }

  function show(next) {
    current = next;
    const { override } = current;
    now.replaceChildren(override ? standing(override) : el("p", { class: "note" }, "There is none: the tier's own limits hold."));
    taking.hidden = !override;
    look();
  }

  node.addEventListener("input", look);
  show(known);
  return { node: el("div", {}, now, node), show };
}

function body(values) {
  return {
    custom_requests_per_hour: wholeNumber(values.custom_requests_per_hour),
    custom_requests_per_day: wholeNumber(values.custom_requests_per_day),
    expires_at: fromLocalField(values.expires_at),
    reason: values.reason?.trim() || null,
  };
}

function standing(override) {
  const limits = FIELDS.filter(([, name]) => override[name] !== null).map(([unit, name]) => `${number(override[name])} ${unit === "hour" ? "an" : "a"} ${unit}`);
  return el("dl", { class: "facts" },
    el("dt", {}, override.state === "active" ? "In force" : "Has ended"), el("dd", {}, limits.join(", ")),
    el("dt", {}, "Since"), el("dd", {}, time(override.set_at)),
    el("dt", {}, "Until"), el("dd", {}, override.expires_at ? timeAndDistance(override.expires_at) : "removed"),
    el("dt", {}, "Reason"), el("dd", {}, override.reason ?? "–"));
}

/// What would be different, in words and numbers.
function previewed(asked, { quota, override }) {
  const lines = FIELDS.map(([unit, name]) => {
    const [used, limit] = [quota[`requests_${unit}_used`] ?? 0, quota[`requests_${unit}_limit`]];
    // Without a number of its own the tier's holds again, which an override in force hides from here.
    const after = typeof asked[name] === "number" ? asked[name] : override?.state === "active" && override[name] !== null ? null : limit;
    return { unit, used, limit, after, asked: asked[name] };
  });
  if (lines.every((line) => line.asked === null)) return [];
  const left = (limit, used) => number(Math.max(0, limit - used));
  return [
    el("p", { class: "preview-head" }, "What this changes"),
    el("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "What this changes" },
      el("table", {}, el("thead", {}, el("tr", {}, ["Limit", "Now", "Then", "Used", "Left then"].map((name, place) => el("th", { scope: "col", class: place > 0 && "number" }, name)))),
        el("tbody", {}, lines.map(({ unit, used, limit, after }) => el("tr", {},
          el("td", {}, unit), el("td", { class: "number" }, number(limit)),
          el("td", { class: "number" }, after === null ? "the tier's own" : number(after)), el("td", { class: "number" }, number(used)),
          el("td", { class: "number" }, after === null ? "–" : left(after, used))))))),
    el("p", { class: "note" }, "From now on, ", asked.expires_at ? ["until ", timeAndDistance(asked.expires_at)] : "until it is removed",
      asked.reason ? `. Reason: ${asked.reason}` : ". No reason is given."),
  ];
}
