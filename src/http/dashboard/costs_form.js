// What endpoints cost, row by row. They are set all together, since the longest path decides among all.

import { el, freshId } from "./dom.js";
import { form, wholeNumber } from "./forms.js";

export function costsForm(costs, save) {
  const rows = el("div", { class: "rows" });
  const add = (cost) => rows.append(costRow(cost));
  costs.forEach(add);
  return form([
    rows,
    el("button", { type: "button", class: "button small", onclick: () => {
      add({ path: "", methods: [], cost: 1 });
      rows.lastElementChild.querySelector("input").focus();
    } }, "Add a path"),
  ], "Save the costs", async () => {
    await save([...rows.children].map(costOf));
    return null;
  });
}

function costRow({ path, methods, cost }) {
  const id = freshId("cost");
  const input = (name, label, value, more = {}) => el("div", { class: "field" },
    el("label", { for: `${id}-${name}` }, label), el("input", { id: `${id}-${name}`, "data-part": name, value, autocomplete: "off", ...more }));
  const row = el("fieldset", { class: "row" },
    el("legend", { class: "visually-hidden" }, path || "New path"),
    input("path", "Path", path, { placeholder: "/api/v1/agents" }), input("methods", "Methods", methods.join(" "), { placeholder: "all" }),
    input("cost", "Cost of one", String(cost), { inputmode: "numeric" }),
    el("button", { type: "button", class: "button small", "aria-label": `Remove ${path || "this path"}`, onclick: () => row.remove() }, "Remove"));
  return row;
}

function costOf(row) {
  const of = (name) => row.querySelector(`[data-part=${name}]`).value.trim();
  return { path: of("path"), methods: of("methods").toUpperCase().split(/[\s,]+/).filter(Boolean), cost: wholeNumber(of("cost")) };
}
