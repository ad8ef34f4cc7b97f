// Tables: a caption, columns that sort, and the same as CSV.

import { csv, save } from "./csv.js";
import { el, freshId } from "./dom.js";

/// `columns`: [{name, cell(row), value(row), number, sort}]. `cell` is what is shown, a text or an element; `value` what is sorted
/// by and saved, `cell` where it is left out.
export function table({ caption, columns, rows, empty = "There is nothing here.", file, actions = [] }) {
  const value = (column, row) => (column.value ?? column.cell)(row);
  const saved = columns.filter((column) => column.saved !== false);
  const id = freshId("table");
  const body = el("tbody");
  const heads = columns.map((column) => head(column, (descending) => show(sorted(column, descending), column, descending)));

  function sorted(column, descending) {
    const order = (a, b) => {
      const [x, y] = [value(column, a), value(column, b)];
      if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
      if (y === null || y === undefined) return -1;
      const up = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
      return descending ? -up : up;
    };
    return [...rows].sort(order);
  }

  function show(shown, by = null, descending = false) {
    columns.forEach((column, place) => {
      const is = column === by;
      heads[place].setAttribute("aria-sort", is ? (descending ? "descending" : "ascending") : "none");
    });
    body.replaceChildren(...shown.map((row) => el("tr", {}, columns.map((column) => line(column, row)))));
  }

  show(rows);
  const download = el("button", {
    type: "button", class: "button small", "aria-label": `${caption} as CSV`, disabled: rows.length === 0,
    onclick: () => save(`${file}.csv`, csv(saved.map((column) => column.name), rows.map((row) => saved.map((column) => value(column, row))))),
  }, "CSV");
  const content = rows.length === 0
    ? el("p", { class: "empty" }, empty)
    : el("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-labelledby": id },
        el("table", { "aria-labelledby": id }, el("thead", {}, el("tr", {}, heads)), body));
  return el("div", { class: "table" },
    el("div", { class: "table-head" }, el("h3", { id }, caption), el("div", { class: "actions" }, ...actions, download)), content);
}

function head(column, sort) {
  const node = el("th", { scope: "col", class: column.number && "number", "aria-sort": "none" });
  if (column.sort === false) {
    node.append(column.name || el("span", { class: "visually-hidden" }, "Actions"));
    return node;
  }
  node.append(el("button", {
    type: "button",
    onclick: () => {
      // Of numbers the largest are looked for first.
      const now = node.getAttribute("aria-sort");
      sort(now === "none" ? Boolean(column.number) : now === "ascending");
    },
  }, column.name));
  return node;
}

function line(column, row) {
  return el("td", { class: [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null }, column.cell(row));
}
