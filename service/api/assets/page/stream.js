// Follows a job's log live. EventSource cannot send the token, so events are read off a fetch.
import { ask } from "./api.js";
import { pause } from "./pause.js";

const PAUSE_MILLISECONDS = 2000;
const TYPE = "text/event-stream";

/** Calls `line` for each line of the log until the job ends; gives its state then. */
export async function follow(place, line, signal) {
  let last = 0;
  for (;;) {
    const headers = { Accept: TYPE, "Last-Event-ID": String(last) };
    const answer = await ask(place, { headers, signal });
    for await (const event of events(answer, signal)) {
      if (event.name === "end") return event.data.state;
      last = event.data.seq;
      line(event.data);
    }
    // It may end early, when the service is busy or restarts: it is opened again where it was.
    await pause(PAUSE_MILLISECONDS, signal);
  }
}

async function* events(answer, signal) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await next(reader, signal);
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    yield* blocks.map(parsed).filter((event) => event.data);
  }
}

async function next(reader, signal) {
  try {
    return await reader.read();
  } catch (error) {
    if (signal.aborted) throw error;
    return { done: true }; // the connection broke, which is an early end
  }
}

function parsed(block) {
  const event = { name: "message", data: null };
  for (const text of block.split("\n")) {
    if (text.startsWith("event: ")) event.name = text.slice("event: ".length);
    if (text.startsWith("data: ")) event.data = JSON.parse(text.slice("data: ".length));
  }
  return event;
}
