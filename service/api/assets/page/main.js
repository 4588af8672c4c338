// Shows the view that the address names; goes on from there.
import { Problem, UNAUTHENTICATED } from "./api.js";
import { audit } from "./audit.js";
import { collections } from "./collections.js";
import { deletions } from "./deletions.js";
import { link, make } from "./dom.js";
import { job } from "./job.js";
import { jobs } from "./jobs.js";
import { manifest, tag } from "./manifest.js";
import { announce, hideNotice, problem } from "./parts.js";
import { registries, registry } from "./registries.js";
import { find, here } from "./routes.js";
import * as session from "./session.js";
import { resume, signIn } from "./sign_in.js";
import { repository } from "./tags.js";

const NAME = "registry-admin";
const VIEWS = [
  ["", registries],
  ["registries/:registry", registry],
  ["registries/:registry/repositories/:repository", repository],
  ["registries/:registry/repositories/:repository/tags/:tag", tag],
  ["registries/:registry/repositories/:repository/manifests/:digest", manifest],
  ["registries/:registry/collections", collections],
  ["registries/:registry/deletions", deletions],
  ["jobs", jobs],
  ["jobs/:job", job],
  ["audit", audit],
];

const main = document.getElementById("main");
const skip = document.getElementById("skip");
const out = document.getElementById("sign-out");
let leaving = new AbortController();
let shownBefore = false;

/** Shows what the address names. What was under way for the view before is dropped. */
async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  main.setAttribute("aria-busy", "true");
  const view = await prepared(signal).catch((error) => refused(error));
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  present(view);
  view.live?.();
}

async function prepared(signal) {
  if (!session.token()) return signIn(null, show);
  if (!session.caller()) await resume();
  const address = here();
  const found = address && find(VIEWS, address.parts);
  if (!found) throw new Problem({ title: "Nothing here", detail: "The page has no such address." });
  return found.view(found.names, { query: address.query, signal, reload: show });
}

function refused(error) {
  if (error.status === UNAUTHENTICATED) {
    session.end();
    return signIn(error, show);
  }
  const trail = [["Registries", "#/"]];
  return { title: "This cannot be shown", trail, content: [problem(error)] };
}

function present({ title, trail = [], content }) {
  const heading = make("h1", { tabindex: -1 }, title);
  main.replaceChildren(...[crumbs(trail), heading, ...content].filter(Boolean));
  document.title = `${title} - ${NAME}`;
  offer();
  announce(`${title}: shown.`);
  if (shownBefore) moveTo(heading);
  shownBefore = true;
}

/** Moves the reader to a view that is new, unless something that just happened is to be read. */
function moveTo(heading) {
  if (document.activeElement?.closest("#notice")) return;
  heading.focus();
}

function crumbs(trail) {
  if (!trail.length) return null;
  const steps = trail.map(([text, href]) => make("li", {}, link(text, href)));
  return make("nav", { "aria-label": "Breadcrumb", class: "trail" }, make("ol", {}, steps));
}

/** Offers what the token may see, and marks where the reader is. */
function offer() {
  const who = session.caller();
  const [place = "registries"] = here()?.parts ?? [];
  document.getElementById("nav").hidden = !who;
  out.hidden = !who;
  document.getElementById("who").textContent = who ? `Signed in as ${who.name}` : "";
  for (const item of document.querySelectorAll("#nav a")) mark(item, place);
}

function mark(item, place) {
  item.parentElement.hidden = Boolean(item.dataset.scope) && !session.may(item.dataset.scope);
  if (item.dataset.place === place) item.setAttribute("aria-current", "true");
  else item.removeAttribute("aria-current");
}

skip.addEventListener("click", (event) => {
  event.preventDefault(); // the address names a view, and stays
  main.focus();
});
out.addEventListener("click", () => {
  session.end();
  hideNotice();
  show();
});
addEventListener("hashchange", show);
show();
