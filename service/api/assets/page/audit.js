// The audit trail: every attempt to change something, refused ones too.
import { get, path, withQuery } from "./api.js";
import { code, link, make } from "./dom.js";
import { state, time } from "./format.js";
import { choice, field, filters, table } from "./parts.js";
import { to } from "./routes.js";
import * as session from "./session.js";

const FILTERS = ["actor", "action", "registry", "outcome"];
const OUTCOMES = ["succeeded", "failed", "refused"];

const COLUMNS = [
  { name: "Time", cell: ({ time: at }) => time(at) },
  { name: "Actor", look: "wide", cell: ({ actor }) => actor ?? "nobody known" },
  { name: "Action", cell: ({ action }) => code(action) },
  { name: "Registry", cell: ({ registry }) => registry ?? "none" },
  { name: "Target", look: "wide", cell: ({ target, container }) => target ?? container ?? "none" },
  { name: "Outcome", cell: outcome },
  { name: "Job", cell: ({ job }) => job ? jobLink(job) : "none" },
  { name: "More", cell: more },
];

export async function audit(_names, { query, signal }) {
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, query.get(name)]));
  const page = await get(withQuery(path("audit-events"), wanted), { signal });
  return {
    title: "Audit",
    content: [form(wanted), table("Audit events, newest first", COLUMNS, page, { signal })],
  };
}

function form({ actor, action, registry, outcome: chosen }) {
  const outcomes = [["", "any"], ...OUTCOMES.map((word) => [word, word])];
  return filters(to("audit"), [
    field("Outcome", choice("outcome", outcomes, chosen)),
    field("Actor", make("input", { name: "actor", value: actor })),
    field("Action", make("input", { name: "action", value: action }), "Such as tag.delete"),
    field("Registry", make("input", { name: "registry", value: registry })),
  ]);
}

function outcome({ outcome: word, code: problemCode, details }) {
  const why = problemCode ? make("p", { class: "wrong" }, problemCode) : null;
  return make("div", {}, state(word ?? "under way"), details.dry_run ? " (dry run)" : null, why);
}

function jobLink(id) {
  const text = `job ${id.slice(-6)}`;
  return session.may("job:read") ? link(text, to("jobs", id)) : text;
}

function more({ id, status, source_ip: from, request_id: request, details }) {
  const told = { id, status, source_ip: from, request_id: request, ...details };
  const text = make("pre", { tabindex: 0 }, JSON.stringify(told, null, 2));
  return make("details", {}, make("summary", {}, "Details"), text);
}
