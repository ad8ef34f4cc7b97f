// How every part is: shards, Redis, the database, the policy, webhooks.

import { get } from "../api.js";
import { badge, el, section } from "../dom.js";
import { duration, number, time } from "../format.js";
import { table } from "../table.js";

export const title = "Health";

export async function show(content, signal) {
  async function load() {
    content.replaceChildren(...shown(await get("health", {}, signal)));
  }
  await load();
  const turning = setInterval(() => load().catch((error) => {
    if (!signal.aborted) content.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
  }), 2000);
  signal.addEventListener("abort", () => clearInterval(turning));
}

function shown({ status, version, counters, shards, redis, fallback_active, policy, database, webhooks }) {
  const millis = (micros) => (micros === null ? "–" : `${(micros / 1000).toFixed(2)} ms`);
  const facts = (...pairs) => el("dl", { class: "facts" }, pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  return [
    el("p", { class: "lead" }, state(status), ` quotad ${version}, counters ${counters === "redis" ? "in Redis" : "in this process"}.`),
    el("div", { class: "columns" },
      section("Redis", ...(redis === null
        ? [el("p", { class: "note" }, "Not in use: this process keeps the counters.")]
        : [state(redis.status), facts(["Ping", millis(redis.ping_micros)], ["Nodes away", number(redis.nodes_away)],
            ["Fallback", fallback_active ? "decides now" : "not needed"], ["Why", redis.error ?? "–"])])),
      section("Database", state(database.status), facts(
        ["Ping", millis(database.ping_micros)], ["Oldest usage not written", duration(database.lag_seconds)],
        ["Rows that wait", number(database.pending_rows)], ["Last flush", time(database.flushed_at)],
        ["Failed flushes", number(database.flush_failures)], ["Rows set aside", number(database.set_aside_rows)])),
      section("Policy", state(policy.status), facts(
        ["File", policy.file ? "yes" : "none"], ["Taken over", policy.loaded_at ? time(policy.loaded_at) : "–"], ["Error", policy.error ?? "–"])),
      section("Webhooks", ...(webhooks === null
        ? [el("p", { class: "note" }, "Not in use: no WEBHOOK_URL is set.")]
        : [state(webhooks.status), facts(["Events that wait", number(webhooks.pending)], ["Dropped", number(webhooks.dropped)],
            ["Why", webhooks.error ?? "–"])]))),
    table({
      caption: "Shards", file: "shards", rows: shards.map((shard, place) => ({ ...shard, place })),
      columns: [
        { name: "Shard", number: true, cell: (row) => number(row.place), value: (row) => row.place },
        { name: "State", cell: (row) => state(row.alive ? "ok" : "degraded"), value: (row) => (row.alive ? "ok" : "down") },
        { name: "Checks that wait", number: true, cell: (row) => number(row.queued), value: (row) => row.queued },
      ],
    }),
  ];
}

function state(status) {
  return status === "ok" ? badge("well", "allowed") : badge("degraded", "denied");
}
