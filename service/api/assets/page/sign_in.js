// Asks for the token. It is kept for the tab alone, and goes in a header of each request.
import { ask, get, path } from "./api.js";
import { make } from "./dom.js";
import { attempt, field, problem } from "./parts.js";
import * as session from "./session.js";

const HINT =
  "Made by: registry-admin token create --name NAME --scope SCOPE. Kept for this tab alone.";

/** Gives the view; `refused` is why an earlier token is not taken, `done` is called once in. */
export function signIn(refused, done) {
  const input = make("input", {
    type: "password",
    name: "token",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
  });
  const failure = make("div", {}, refused ? problem(refused) : null);
  const send = make("button", { type: "submit" }, "Sign in");
  const work = async () => {
    const secret = input.value.trim();
    const who = await (await ask(path("me"), { token: secret })).json();
    session.begin(secret, who);
    await done();
  };
  const submit = async (event) => {
    event.preventDefault();
    await attempt(send, failure, work);
    if (input.isConnected) input.focus();
  };
  const form = make("form", { on: { submit } }, field("Token", input, HINT), failure, send);
  return { title: "Sign in", content: [form] };
}

/** Finds out whose token it is that the tab has kept; throws a Problem when it is refused. */
export async function resume() {
  session.begin(session.token(), await get(path("me")));
}
