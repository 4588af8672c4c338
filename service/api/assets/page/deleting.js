// Deleting a tag: what would go is shown first, and what went can be put back.
import { change, path, withQuery } from "./api.js";
import { button, code, facts, list, make, newId } from "./dom.js";
import { plural, size } from "./format.js";
import { announce, attempt, notify, problem } from "./parts.js";
import * as session from "./session.js";

/** Makes a button that asks, deletes, and calls `done` then. A tag is its registry, repository,
 * name and, unless it is dangling, digest: one that was moved meanwhile is not deleted. */
export function deleteButton(tag, done) {
  const name = `${tag.repository}:${tag.tag}`;
  const label = { "aria-label": `Delete ${name}`, class: "danger" };
  return button("Delete", () => ask(tag, name, done), label);
}

function ask(tag, name, done) {
  const title = newId("title");
  const told = make("div", { "aria-busy": "true" }, make("p", {}, "Looking at what would go…"));
  const failure = make("div");
  const dialog = make("dialog", { "aria-labelledby": title });
  const cancel = button("Cancel", () => dialog.close());
  const remove = button("Delete", () => attempt(remove, failure, work), { class: "danger" });
  const work = async () => {
    const deletion = await removed(tag, false);
    dialog.close();
    tell(name, deletion, done);
  };
  remove.disabled = true;
  const heading = make("h2", { id: title, tabindex: -1, autofocus: true }, `Delete ${name}?`);
  dialog.append(heading, told, failure, make("p", { class: "choices" }, cancel, remove));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return plan(tag, told, remove);
}

async function plan(tag, told, remove) {
  try {
    told.replaceChildren(...planned(await removed(tag, true)));
    remove.disabled = false;
  } catch (error) {
    told.replaceChildren(problem(error));
  } finally {
    told.removeAttribute("aria-busy");
  }
}

function removed({ registry, repository, tag, digest }, dryRun) {
  const place = path("registries", registry, "repositories", repository, "-", "tags", tag);
  const headers = digest ? { "If-Match": `"${digest}"` } : {};
  return change("DELETE", withQuery(place, { dry_run: dryRun }), { headers });
}

function planned(deletion) {
  const { manifests_removed: gone, manifests_kept: kept } = deletion;
  const undo = "It can be put back until garbage is collected.";
  return [
    facts([
      ["Tags that go", list(deletion.tags_removed)],
      ["Manifests that go", gone.length ? list(gone.map(described)) : "none"],
      ["Manifests that stay", kept.length ? list(kept.map(reasoned)) : null],
    ]),
    make("p", {}, deletion.restorable ? undo : "It cannot be put back."),
  ];
}

function described({ digest, size: bytes }) {
  return make("span", {}, code(digest), ` (${size(bytes)})`);
}

function reasoned({ digest, reason }) {
  return make("span", {}, code(digest), ` (${reason})`);
}

function tell(name, deletion, done) {
  const count = deletion.manifests_removed.length;
  const went = count ? `${plural(count, "manifest")} went with it.` : "Its manifest stays.";
  const failure = make("div");
  const undo = button(`Undo: restore ${name}`, () => attempt(undo, failure, () => putBack()));
  const putBack = async () => {
    await restore(deletion);
    notify(make("p", {}, `Restored ${name}.`));
    announce(`Restored ${name}.`);
    await done();
  };
  const offered = deletion.restorable && session.may("registry:write") ? undo : null;
  notify(make("p", {}, `Deleted ${name}. ${went}`), failure, offered ?? "");
  return done();
}

/** Puts a deletion back; throws a Problem where a tag is in use, or its blobs were collected. */
export function restore({ registry, id }) {
  return change("POST", path("registries", registry, "deletions", id, "restore"), { body: {} });
}
