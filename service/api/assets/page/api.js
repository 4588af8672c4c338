// Asks the API: the token goes in a header and nowhere else, an error comes back as a Problem.
import { pause } from "./pause.js";
import * as session from "./session.js";

// The service may be mounted under a prefix; its assets tell which.
const ROOT = new URL("../", import.meta.url).pathname;

const TRIES = 3;
const PAUSE_MILLISECONDS = 500;

export const UNAUTHENTICATED = 401;

/** A problem document (RFC 9457), or what a browser can tell where there was no answer. */
export class Problem extends Error {
  constructor(told, status = 0) {
    super(told.detail ?? told.title);
    this.told = told;
    this.status = status;
  }
}

/** Gives the path of an operation. A repository's name may hold slashes, which stay. */
export function path(...parts) {
  const safe = parts.map((part) => part.split("/").map(encodeURIComponent).join("/"));
  return `${ROOT}v1/${safe.join("/")}`;
}

export function withQuery(place, options) {
  const told = Object.entries(options).filter(([, value]) => value !== null && value !== "");
  return told.length ? `${place}?${new URLSearchParams(told)}` : place;
}

/** Gives the page that explains a problem's code. */
export function explanation(problemCode) {
  return `${ROOT}docs/problems/${encodeURIComponent(problemCode)}`;
}

export async function get(place, { signal } = {}) {
  return (await ask(place, { signal })).json();
}

export async function change(method, place, { body, headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const answer = await ask(place, { method, signal, headers: sent, body: JSON.stringify(body) });
  return answer.json();
}

/** Gives the answer; throws a Problem unless it went well or, asked conditionally, is 304. */
export async function ask(place, { headers = {}, token = session.token(), ...options } = {}) {
  const answer = await send(place, {
    ...options,
    cache: "no-store",
    redirect: "error",
    headers: { Accept: "application/json", Authorization: `Bearer ${token}`, ...headers },
  });
  if (answer.ok || answer.status === 304) return answer;
  throw new Problem(await toldBy(answer), answer.status);
}

/**
 * Asks, and asks again what only reads: a browser drops what it is loading when a network comes
 * or goes on its machine, and an engine beside it makes some for containers that it starts.
 */
async function send(place, options, tries = options.method ? 1 : TRIES) {
  try {
    return await fetch(place, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    if (tries > 1) {
      await pause(PAUSE_MILLISECONDS, options.signal);
      return send(place, options, tries - 1);
    }
    throw new Problem({
      title: "No answer",
      detail: "The service does not answer. Is it running, and is the network there?",
    });
  }
}

async function toldBy(answer) {
  const detail = `The answer was ${answer.status}, and not in the form the service gives it.`;
  const told = await answer.json().catch(() => ({ detail }));
  return { title: "Error", ...told };
}
