// The service's live events. EventSource can't send a credential, so the stream is read from fetch.

import { ApiError, address, authorization } from "./api.js";

const PAUSES = [500, 1000, 2000, 5000, 10_000];

/// Reads events until `signal` is aborted, and begins again when the line breaks. `told(name, data)` is called for each,
/// `state(text, error)` with `connecting`, `live` or `broken`.
export async function follow(signal, told, state) {
  for (let tries = 0; !signal.aborted; tries += 1) {
    state("connecting", null);
    try {
      await read(signal, (name, data) => {
        if (name === "ready") {
          tries = 0;
          state("live", null);
        }
        told(name, data);
      });
      state("broken", null);
    } catch (error) {
      if (signal.aborted) return;
      state("broken", error);
      if (error.status === 401 || error.status === 403) return;
    }
    await pause(PAUSES[Math.min(tries, PAUSES.length - 1)], signal);
  }
}

async function read(signal, told) {
  const headers = { Accept: "text/event-stream", ...authorization() };
  const answer = await fetch(address("api/v2/admin/events"), { headers, signal, cache: "no-store", credentials: "omit" });
  if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => null));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (waiting + value).split("\n\n");
    waiting = parts.pop();
    parts.forEach((part) => tell(part, told));
  }
}

/// The service writes one line of each kind; a comment has none.
function tell(text, told) {
  const lines = text.split("\n");
  const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  const [name, data] = [field("event"), field("data")];
  if (name && data) told(name, JSON.parse(data));
}

function pause(length, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, length);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      done();
    }, { once: true });
  });
}
