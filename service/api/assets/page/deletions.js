// What was deleted from a registry, and putting it back.
import { get, path } from "./api.js";
import { restore } from "./deleting.js";
import { button, list, make } from "./dom.js";
import { digest, plural, time, yesOrNo } from "./format.js";
import { attempt, notify, table } from "./parts.js";
import { to } from "./routes.js";
import * as session from "./session.js";

export async function deletions({ registry }, { signal }) {
  const page = await get(path("registries", registry, "deletions"), { signal });
  return {
    title: `Deletions from ${registry}`,
    trail: [["Registries", to()], [registry, to("registries", registry)]],
    content: [table("Deletions, newest first", columns(), page, { signal })],
  };
}

function columns() {
  const told = [
    { name: "Deleted", cell: ({ created_at: at }) => time(at) },
    { name: "Repository", look: "wide", cell: ({ repository }) => repository },
    { name: "Tags", look: "wide", cell: tags },
    { name: "Digest", cell: ({ digest: whole }) => digest(whole) },
    { name: "Manifests", cell: ({ manifests_removed: all }) => plural(all.length, "manifest") },
    { name: "By", look: "wide", cell: ({ requested_by: who }) => who },
    { name: "Restorable", cell: ({ restorable }) => yesOrNo(restorable) },
  ];
  return session.may("registry:write") ? [...told, { name: "Actions", cell: restoring }] : told;
}

function tags({ tags_removed: all }) {
  return all.length ? list(all) : "none";
}

function restoring(deletion) {
  if (!deletion.restorable) return "none";
  const name = `${deletion.repository}:${deletion.requested.tag ?? deletion.requested.digest}`;
  const failure = make("div");
  const work = async () => {
    await restore(deletion);
    notify(make("p", {}, `Restored ${name}.`));
  };
  const label = { "aria-label": `Restore ${name}` };
  const restored = button("Restore", () => attempt(restored, failure, work), label);
  return make("div", {}, restored, failure);
}
