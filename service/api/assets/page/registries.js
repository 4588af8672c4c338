// The registries, and one of them with its repositories.
import { get, path, withQuery } from "./api.js";
import { code, facts, link, make, section } from "./dom.js";
import { UNKNOWN, state, time, yesOrNo } from "./format.js";
import { shown, table } from "./parts.js";
import { to } from "./routes.js";
import * as session from "./session.js";

const COLUMNS = [
  { name: "Name", cell: ({ name }) => link(name, to("registries", name)) },
  { name: "State", cell: status },
  { name: "Address", look: "wide", cell: ({ url }) => code(url) },
  { name: "Version", cell: ({ version }) => version ?? UNKNOWN },
  { name: "Deletion", cell: ({ delete_enabled: enabled }) => yesOrNo(enabled) },
  { name: "Checked", cell: ({ checked_at: at }) => time(at) },
];

export async function registries(_names, { signal }) {
  const found = await get(path("registries"), { signal });
  return { title: "Registries", content: [table("Registries", COLUMNS, found, { signal })] };
}

function status(registry) {
  const wrong = registry.problem ? make("p", { class: "wrong" }, registry.problem) : null;
  return make("div", {}, state(registry.status), wrong);
}

export async function registry({ registry: name }, { signal }) {
  const repositories = get(withQuery(path("registries", name, "repositories"), { n: 100 }), {
    signal,
  });
  const options = { sorted: "Name", signal };
  const show = (page) => table("Repositories that have tags", columns(name), page, options);
  const [found, held] = await Promise.all([
    get(path("registries", name), { signal }),
    shown(repositories, show, signal), // one that is down lists nothing, and its state says why
  ]);
  return {
    title: name,
    trail: [["Registries", to()]],
    content: [ways(found), section("Repositories", held), section("State", told(found))],
  };
}

function columns(name) {
  const href = (repository) => to("registries", name, "repositories", repository);
  return [{ name: "Name", cell: (repository) => link(repository.name, href(repository.name)) }];
}

function ways({ name, container }) {
  const collections = link("Garbage collections", to("registries", name, "collections"));
  return make(
    "ul",
    { class: "ways" },
    make("li", {}, link("Deletions", to("registries", name, "deletions"))),
    container && session.may("job:read") ? make("li", {}, collections) : null,
  );
}

function told(registry) {
  const { auth, tls } = registry;
  return facts([
    ["State", status(registry)],
    ["Address", code(registry.url)],
    ["Version", registry.version ?? UNKNOWN],
    ["Deletion enabled", yesOrNo(registry.delete_enabled)],
    ["Read-only", yesOrNo(registry.read_only)],
    ["Container", registry.container ?? "none"],
    ["Credentials", auth.scheme === "none" ? "none asked for" : auth.scheme ?? UNKNOWN],
    ["Signed in as", auth.username],
    ["Certificate", tls ? certificate(tls) : "none: plain HTTP"],
    ["Checked", time(registry.checked_at)],
  ]);
}

function certificate({ verified, issuer, not_after: end }) {
  const trusted = verified ? "trusted" : "not trusted";
  return make("span", {}, `${trusted}, issued by ${issuer ?? UNKNOWN}, valid until `, time(end));
}
