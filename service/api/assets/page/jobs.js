// The jobs, and how each kind of view shows one.
import { get, path, withQuery } from "./api.js";
import { link, make } from "./dom.js";
import { plural, size, state, time } from "./format.js";
import { choice, field, filters, table } from "./parts.js";
import { to } from "./routes.js";

const STATES = ["queued", "running", "succeeded", "failed", "cancelled"];
const FILTERS = ["kind", "state", "registry"];

export async function jobs(_names, { query, signal }) {
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, query.get(name)]));
  const page = await get(withQuery(path("jobs"), wanted), { signal });
  return {
    title: "Jobs",
    content: [form(wanted), table("Jobs, newest first", columns(), page, { signal })],
  };
}

function form({ kind, state: chosen, registry }) {
  const states = [["", "any"], ...STATES.map((word) => [word, word])];
  return filters(to("jobs"), [
    field("State", choice("state", states, chosen)),
    field("Kind", make("input", { name: "kind", value: kind }), "Such as gc"),
    field("Registry", make("input", { name: "registry", value: registry })),
  ]);
}

function columns() {
  return [
    ...jobColumns("Kind"),
    { name: "Registry", cell: ({ registry }) => registry ?? "none" },
    { name: "Container", look: "wide", cell: ({ container }) => container ?? "none" },
  ];
}

/** Gives the columns that lists of jobs share; the first is the link to the job. */
export function jobColumns(first) {
  return [
    { name: first, cell: ({ id, kind }) => link(`${kind} ${id.slice(-6)}`, to("jobs", id)) },
    { name: "State", cell: ({ state: word }) => state(word) },
    { name: "Asked for", cell: ({ created_at: at }) => time(at) },
    { name: "By", look: "wide", cell: ({ requested_by: who }) => who },
  ];
}

/** Tells in a line what a garbage collection did, or would do; null for what has no result. */
export function collected({ result }) {
  if (!result) return null;
  const blobs = plural(result.blobs_eligible, "blob");
  if (result.dry_run) return `${blobs} would go, ${size(result.bytes_eligible)}`;
  return `${plural(result.blobs_deleted, "blob")} gone, ${size(result.bytes_freed)} freed`;
}
