// A repository: its tags with size, date and platforms.
import { get, path, withQuery } from "./api.js";
import { link, make } from "./dom.js";
import { deleteButton } from "./deleting.js";
import { digest, platforms, size, state, time } from "./format.js";
import { table } from "./parts.js";
import { to } from "./routes.js";
import * as session from "./session.js";

const PAGE = 50; // each tag in full takes the registry a question or two

export async function repository({ registry, repository: name }, { signal, reload }) {
  const place = path("registries", registry, "repositories", name, "-", "tags");
  const page = await get(withQuery(place, { detail: true, n: PAGE }), { signal });
  const where = { registry, repository: name };
  const options = { sorted: "Tag", signal };
  return {
    title: name,
    trail: [["Registries", to()], [registry, to("registries", registry)]],
    content: [table("Tags", columns(where, reload), page, options)],
  };
}

function columns(where, reload) {
  const told = [
    { name: "Tag", cell: (tag) => named(where, tag) },
    { name: "Kind", cell: kind },
    { name: "Size", look: "number", cell: ({ size: bytes }) => size(bytes) },
    { name: "Created", cell: ({ created }) => time(created) },
    { name: "Platforms", cell: ({ platforms: all }) => platforms(all) },
    { name: "Digest", cell: ({ digest: whole }) => digest(whole) },
  ];
  if (!session.may("registry:delete")) return told;
  const remove = (tag) => deleteButton({ ...where, tag: tag.name, digest: tag.digest }, reload);
  return [...told, { name: "Actions", cell: remove }];
}

/** Tells what a tag is; of one whose manifest is gone or damaged, that it is. */
function kind(tag) {
  if (tag.digest) return tag.kind;
  const wrong = tag.problem ? make("p", { class: "wrong" }, tag.problem) : null;
  return make("div", {}, state(tag.dangling ? "dangling" : "damaged"), wrong);
}

function named({ registry, repository: name }, tag) {
  if (!tag.digest) return make("span", {}, tag.name); // there is no manifest to show
  return link(tag.name, to("registries", registry, "repositories", name, "tags", tag.name));
}
