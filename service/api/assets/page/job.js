// A job, live: its progress, its log, what came of it.
import { Problem, ask, change, get, path } from "./api.js";
import { button, code, facts, link, make, section } from "./dom.js";
import { clock, seconds, size, state, time } from "./format.js";
import { announce, attempt, problem } from "./parts.js";
import { collected } from "./jobs.js";
import { pause } from "./pause.js";
import { to } from "./routes.js";
import { follow } from "./stream.js";

const LOOK_MILLISECONDS = 1000;
const LINES_SHOWN = 1000; // the newest; a browser is slow with many more
const ACTIVE = new Set(["queued", "running"]);

export async function job({ job: id }, { signal }) {
  const place = path("jobs", id);
  const found = await get(place, { signal });
  const [head, about] = [make("div"), make("div")];
  const failure = make("div");
  const log = logBox();
  const stop = cancelButton(place, failure);
  const show = (current) => {
    head.replaceChildren(...standing(current));
    about.replaceChildren(described(current));
    stop.hidden = !ACTIVE.has(current.state);
  };
  show(found);
  return {
    title: `Job ${found.kind}`,
    trail: [["Jobs", to("jobs")]],
    content: [head, failure, stop, section("Log", log), section("About it", about)],
    live: () => watch(place, { show, log, failure, signal }),
  };
}

/** Shows how the job goes on until it ends, or the view is left. */
async function watch(place, { show, log, failure, signal }) {
  const both = [
    follow(`${place}/log`, (line) => addLine(log, line), signal),
    look(place, show, signal),
  ];
  try {
    await Promise.all(both);
  } catch (error) {
    if (!signal.aborted) failure.replaceChildren(problem(error));
  }
}

async function look(place, show, signal) {
  let known = null;
  for (;;) {
    const headers = known ? { "If-None-Match": known } : {};
    const answer = await ask(place, { headers, signal });
    if (answer.status !== 304) {
      const current = await answer.json();
      known = answer.headers.get("ETag");
      show(current);
      announce(`The job is ${current.state}${phase(current)}.`);
      if (!ACTIVE.has(current.state)) return;
    }
    await pause(LOOK_MILLISECONDS, signal);
  }
}

function phase({ state: word, progress }) {
  return word === "running" && progress?.phase ? `: ${progress.phase}` : "";
}

/** Makes what scrolls; where the job stands is announced, and each line would be too much. */
function logBox() {
  const told = { role: "log", "aria-label": "Log", "aria-live": "off" };
  return make("div", { class: "log", tabindex: 0, ...told }, make("ol"));
}

function addLine(log, line) {
  const at = make("time", { datetime: line.time }, clock(line.time));
  const level = make("span", { class: "level" }, line.level);
  const row = make("li", { "data-level": line.level }, at, " ", level, " ", line.message);
  // Whoever has scrolled up to read is left there.
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const lines = log.firstChild;
  lines.append(row);
  if (lines.childElementCount > LINES_SHOWN) lines.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function cancelButton(place, failure) {
  const work = async () => {
    await change("POST", `${place}/cancel`);
    announce("The job was asked to stop.");
  };
  const cancel = button("Cancel the job", () => attempt(cancel, failure, work));
  return cancel;
}

function described(current) {
  return facts([
    ["Id", code(current.id)],
    ["Registry", current.registry && link(current.registry, to("registries", current.registry))],
    ["Container", current.container],
    ["Asked for", asked(current.params)],
    ["By", current.requested_by],
    ["Request id", current.request_id && code(current.request_id)],
    ["Accepted", time(current.created_at)],
    ["Began", current.started_at && time(current.started_at)],
    ["Ended", current.finished_at && time(current.finished_at)],
  ]);
}

/** Tells where a job stands, and what came of it. */
function standing(current) {
  const parts = [
    facts([["State", state(current.state)]]),
    progress(current),
    current.error ? section("Why it failed", problem(new Problem(current.error))) : null,
    current.result ? section("Result", ...outcome(current)) : null,
  ];
  return parts.filter(Boolean);
}


function asked(params) {
  const pairs = Object.entries(params ?? {});
  return pairs.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ") || "none";
}

function progress({ state: word, progress: told }) {
  if (!ACTIVE.has(word)) return null;
  const { phase: step = "waiting", done = null, total = null } = told ?? {};
  const counted = total ? { value: done ?? 0, max: total } : {};
  const bar = make("progress", { "aria-label": "Progress", ...counted });
  const numbers = total ? `, ${done ?? 0} of ${total}` : "";
  return make("p", { class: "progress" }, bar, ` ${step}${numbers}`);
}

function outcome(current) {
  const { result } = current;
  const whole = make("pre", { tabindex: 0 }, JSON.stringify(result, null, 2));
  const details = make("details", {}, make("summary", {}, "All of the result"), whole);
  return current.kind === "gc" ? [collection(current), details] : [details];
}

function collection(current) {
  const { result } = current;
  return facts([
    ["In short", collected(current)],
    ["Blobs in use", String(result.blobs_marked)],
    ["Manifests eligible", String(result.manifests_eligible)],
    ["Bytes eligible", size(result.bytes_eligible)],
    ["Bytes freed", size(result.bytes_freed)],
    ["Pulls were down for", seconds(result.pulls_down_seconds)],
    ["Pushes were down for", seconds(result.pushes_down_seconds)],
  ]);
}
