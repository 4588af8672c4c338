// A manifest, by tag or digest: what it is made of, who refers to it, its exact text.
import { ask, get, path } from "./api.js";
import { deleteButton } from "./deleting.js";
import { code, facts, list, make, section } from "./dom.js";
import { platform, platforms, size, time } from "./format.js";
import { problem, shown, table } from "./parts.js";
import { to } from "./routes.js";
import * as session from "./session.js";

export async function tag({ registry, repository, tag: name }, page) {
  const view = await described({ registry, repository }, name, page);
  const target = { registry, repository, tag: name, digest: view.digest };
  const leave = () => { location.hash = to("registries", registry, "repositories", repository); };
  const remove = session.may("registry:delete") ? make("p", {}, deleteButton(target, leave)) : null;
  return { ...view, title: `${repository}:${name}`, content: [...view.content, remove] };
}

export async function manifest({ registry, repository, digest }, page) {
  const view = await described({ registry, repository }, digest, page);
  return { ...view, title: `${repository}@${digest}` };
}

async function described(where, reference, { signal }) {
  const parts = ["registries", where.registry, "repositories", where.repository, "-", "manifests"];
  const found = await get(path(...parts, reference), { signal });
  const referring = get(path(...parts, found.digest, "referrers"), { signal });
  const referrers = await shown(referring, (all) => referred(where, all, signal), signal);
  return {
    digest: found.digest,
    trail: trail(where),
    content: [
      overview(where, found),
      children(where, found, signal),
      config(found.config),
      layers(found, signal),
      texts("Annotations", found.annotations),
      section("Referrers", referrers),
      raw(path(...parts, found.digest, "raw"), signal),
    ],
  };
}

function trail({ registry, repository }) {
  return [
    ["Registries", to()],
    [registry, to("registries", registry)],
    [repository, to("registries", registry, "repositories", repository)],
  ];
}

function byDigest({ registry, repository }, digest) {
  const way = to("registries", registry, "repositories", repository, "manifests", digest);
  return make("a", { href: way, class: "digest" }, digest);
}

function overview(where, found) {
  return facts([
    ["Digest", code(found.digest)],
    ["Kind", found.artifact_type ? `${found.kind} (${found.artifact_type})` : found.kind],
    ["Media type", code(found.media_type)],
    ["Size", `${size(found.size)} (${found.size} bytes)`],
    ["Platforms", platforms(found.platforms)],
    ["Is about", found.subject ? byDigest(where, found.subject) : null],
  ]);
}

function children(where, { children: all }, signal) {
  if (!all.length) return null;
  const columns = [
    { name: "Digest", cell: ({ digest }) => byDigest(where, digest) },
    { name: "Platform", cell: (child) => (child.platform ? platform(child.platform) : "none") },
    { name: "Size", look: "number", cell: ({ size: bytes }) => size(bytes) },
  ];
  const page = { items: all, next: null };
  return section("Children", table("Children of this index", columns, page, { signal }));
}

function config(told) {
  if (!told) return null;
  return section(
    "Configuration",
    facts([
      ["Created", time(told.created)],
      ["Runs on", [told.os, told.architecture].filter(Boolean).join("/") || null],
      ["Entrypoint", told.entrypoint ? code(JSON.stringify(told.entrypoint)) : null],
      ["Command", told.cmd ? code(JSON.stringify(told.cmd)) : null],
      ["User", told.user],
      ["Working directory", told.working_dir ? code(told.working_dir) : null],
      ["Ports", told.exposed_ports.length ? told.exposed_ports.join(", ") : null],
      ["Environment", told.env.length ? list(told.env.map(code)) : null],
    ]),
    texts("Labels", told.labels, "h3"),
  );
}

function texts(heading, all, level = "h2") {
  const pairs = Object.entries(all ?? {});
  return pairs.length ? make("section", {}, make(level, {}, heading), facts(pairs)) : null;
}

function layers({ layers: all }, signal) {
  if (!all.length) return null;
  const numbered = all.map((layer, place) => ({ ...layer, number: place + 1 }));
  const columns = [
    { name: "Layer", cell: ({ number }) => String(number) },
    { name: "Made by", cell: ({ created_by: step, media_type: type }) => code(step ?? type) },
    { name: "Size", look: "number", cell: ({ size: bytes }) => size(bytes) },
    { name: "Digest", cell: ({ digest }) => code(digest) },
  ];
  const page = { items: numbered, next: null };
  return section("Layers", table("Layers, lowest first", columns, page, { signal }));
}

function referred(where, all, signal) {
  const columns = [
    { name: "Digest", cell: ({ digest }) => byDigest(where, digest) },
    { name: "What", cell: ({ artifact_type: type, media_type: media }) => code(type ?? media) },
    { name: "Size", look: "number", cell: ({ size: bytes }) => size(bytes) },
    { name: "Found by", cell: ({ source }) => source },
  ];
  return table("What refers to it", columns, all, { signal });
}

/** Shows the exact text, which is asked for once it is wanted. */
function raw(place, signal) {
  const text = make("div", { "aria-live": "polite" });
  const details = make("details", {}, make("summary", {}, "Exact text of the manifest"), text);
  const load = async () => {
    try {
      const answer = await ask(place, { headers: { Accept: "*/*" }, signal });
      text.replaceChildren(make("pre", { tabindex: 0 }, await answer.text()));
    } catch (error) {
      if (!signal.aborted) text.replaceChildren(problem(error));
    }
  };
  details.addEventListener("toggle", load, { once: true });
  return details;
}
