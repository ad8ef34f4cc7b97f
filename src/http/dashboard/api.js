// Asks the service. The credential lives in this module's memory and nowhere else: a reload forgets it.

let credential = null;

/// What other administrators may have changed meanwhile: the version of each thing as it was last read.
const versions = new Map();

/// An answer that is no answer, in the service's own words.
export class ApiError extends Error {
  constructor(status, problem) {
    const detail = problem?.detail || problem?.title || `the service answered ${status}`;
    super(detail);
    this.status = status;
    this.problem = problem;
    /// [{field, message}] where fields are to blame.
    this.fields = problem?.errors ?? [];
  }
}

export function setCredential(text) {
  credential = text?.trim() || null;
  versions.clear();
}

export function hasCredential() {
  return credential !== null;
}

/// The page may stand behind a prefix of somebody's gateway: paths are found from where it stands.
export function address(path, query = {}) {
  const url = new URL(path, new URL(".", document.baseURI));
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

export function authorization() {
  if (!credential) return {};
  if (/[^\x21-\x7e]/.test(credential)) {
    throw new ApiError(401, { detail: "A credential has letters, digits and signs of ASCII alone, and no spaces." });
  }
  // A token has two dots; anything else is a key.
  const isToken = /^[\w-]+\.[\w-]+\.[\w-]+$/.test(credential);
  return isToken ? { Authorization: `Bearer ${credential}` } : { "X-API-Key": credential };
}

/// Sends a request; answers the JSON, or null where there is none.
export async function ask(method, path, { query, body, signal } = {}) {
  const url = address(path, query);
  const headers = { Accept: "application/json", ...authorization() };
  const init = { method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  if (method !== "GET" && versions.has(url.pathname)) headers["If-Match"] = versions.get(url.pathname);
  let answer;
  try {
    answer = await fetch(url, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { detail: "The service can't be reached." });
  }
  return read(answer, url);
}

async function read(answer, url) {
  const text = await answer.text();
  let json = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    // It is no JSON: a proxy in between has answered by itself.
  }
  if (!answer.ok) {
    if (answer.status === 412) versions.delete(url.pathname);
    throw new ApiError(answer.status, json);
  }
  const version = answer.headers.get("ETag");
  if (version) versions.set(url.pathname, version);
  else versions.delete(url.pathname);
  return json;
}

export const get = (path, query, signal) => ask("GET", path, { query, signal });
export const put = (path, body) => ask("PUT", path, { body });
export const post = (path, body, options = {}) => ask("POST", path, { body, ...options });
export const remove = (path) => ask("DELETE", path);

/// A text as one segment of a path.
export const segment = encodeURIComponent;
