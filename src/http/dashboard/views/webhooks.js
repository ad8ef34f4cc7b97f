// Webhooks: what was sent to the receiver, what came of it, and an event to try it with.

import { get, post } from "../api.js";
import { badge, choice, el } from "../dom.js";
import { outcome, problem } from "../forms.js";
import { number, time, timeAndDistance } from "../format.js";
import { table } from "../table.js";

export const title = "Webhooks";

const STATES = [["", "All"], ["pending", "Waiting"], ["delivered", "Delivered"], ["given_up", "Given up"]];

export async function show(content, signal) {
  const place = el("div", {});
  const told = outcome();
  let state = "";

  async function load(after = null, before = []) {
    const { items, next } = await get("api/v2/admin/webhooks/deliveries", { state, limit: 100, after }, signal);
    const rows = [...before, ...items];
    place.replaceChildren(list(rows, state),
      next !== null ? el("button", { type: "button", class: "button more", onclick: () => again(next, rows) }, "Show older") : "");
  }
  const again = (after, before) => load(after, before).catch((error) => {
    if (!signal.aborted) place.replaceChildren(problem(error));
  });

  async function test(event) {
    const button = event.currentTarget;
    button.disabled = true;
    told.clear();
    try {
      const { delivered, status, error, elapsed_ms } = await post("api/v2/admin/webhooks/test");
      const said = status === null ? error : `it answered ${status}`;
      if (delivered) told.done(`The receiver took the event: ${said}, after ${number(elapsed_ms)} ms.`);
      else told.failed(new Error(`The receiver did not take the event: ${said}.`));
      await again();
    } catch (error) {
      told.failed(error);
    } finally {
      button.disabled = false;
    }
  }

  content.append(
    el("p", { class: "lead" }, "Events for the receiver at WEBHOOK_URL, the newest first. One that is not taken is sent again for an hour."),
    el("div", { class: "actions" },
      choice("State", STATES, state, (value) => {
        state = value;
        again();
      }),
      el("button", { type: "button", class: "button", onclick: test }, "Send a test event")),
    told.node, place);
  await load();
}

function list(rows, state) {
  return table({
    caption: "Deliveries", file: state ? `webhooks-${state}` : "webhooks", rows, empty: "There is no such event.",
    columns: [
      { name: "Written", cell: (row) => time(row.created_at), value: (row) => row.created_at },
      { name: "Type", cell: (row) => row.type },
      { name: "About", wide: true, cell: about },
      { name: "State", cell: (row) => badge(stateText(row), stateKind(row)), value: stateText },
      { name: "Attempts", number: true, cell: (row) => number(row.attempts), value: (row) => row.attempts },
      { name: "Last answer", cell: answer },
      { name: "Next attempt", cell: (row) => (row.next_attempt_at ? timeAndDistance(row.next_attempt_at) : "–"), value: (row) => row.next_attempt_at },
      { name: "Id", cell: (row) => el("code", {}, row.id), value: (row) => row.id },
    ],
  });
}

const stateText = (row) => STATES.find(([value]) => value === row.state)[1].toLowerCase();
const stateKind = (row) => ({ delivered: "allowed", given_up: "denied" })[row.state] ?? "plain";

function answer(row) {
  if (row.status !== null) return String(row.status);
  return row.error ?? "–";
}

function about(row) {
  const { subject, limit, threshold_percent: percent, error } = row.event?.data ?? {};
  if (subject) return `${percent} % of ${limit}, ${subject}`;
  return error ?? "";
}
