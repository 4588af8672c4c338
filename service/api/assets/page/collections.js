// Collecting a registry's garbage: starting it, and what came of earlier runs.
import { change, get, path } from "./api.js";
import { make, section } from "./dom.js";
import { attempt, choice, field, table } from "./parts.js";
import { collected, jobColumns } from "./jobs.js";
import { to } from "./routes.js";
import * as session from "./session.js";

const MODES = [
  ["read-only", "Read-only: pulls go on, pushes are refused meanwhile"],
  ["stopped", "Stopped: neither pulls nor pushes meanwhile"],
];
const EXTENTS = [
  ["true", "Dry run: only tell what would go; nothing is stopped"],
  ["false", "Collect: what no manifest needs is gone for good"],
];

export async function collections({ registry }, { signal }) {
  const page = await get(path("registries", registry, "gc-runs"), { signal });
  const runs = table("Garbage collections, newest first", columns(), page, { signal });
  return {
    title: `Garbage collections of ${registry}`,
    trail: [["Registries", to()], [registry, to("registries", registry)]],
    content: [
      session.may("gc:run") ? section("Start one", form(registry)) : null,
      section("Runs", runs),
    ],
  };
}

function columns() {
  return [...jobColumns("Run"), { name: "Result", cell: (job) => collected(job) ?? "none" }];
}

function form(registry) {
  const failure = make("div");
  const send = make("button", { type: "submit" }, "Start");
  const key = newKey(); // so that a second click does not start a second one
  const start = (event) => {
    event.preventDefault();
    const entered = new FormData(event.target);
    const body = { mode: entered.get("mode"), dry_run: entered.get("dry_run") === "true" };
    return attempt(send, failure, () => begin(registry, body, `${key}-${JSON.stringify(body)}`));
  };
  return make(
    "form",
    { on: { submit: start } },
    field("What to do", choice("dry_run", EXTENTS, "true")),
    field("Mode", choice("mode", MODES, "read-only")),
    failure,
    send,
  );
}

async function begin(registry, body, key) {
  const place = path("registries", registry, "gc-runs");
  const job = await change("POST", place, { body, headers: { "Idempotency-Key": key } });
  location.hash = to("jobs", job.id);
}

function newKey() {
  const numbers = crypto.getRandomValues(new Uint32Array(4));
  return [...numbers].map((number) => number.toString(16)).join("");
}
