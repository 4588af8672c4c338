// What several views are made of: tables that go on, problems, notices, announcements.
import { Problem, UNAUTHENTICATED, explanation, get } from "./api.js";
import { button, code, facts, link, list, make, newId } from "./dom.js";
import { plural } from "./format.js";

const notice = document.getElementById("notice");
const status = document.getElementById("status");

/** Tells screen readers, in so many words, what sighted people see change. */
export function announce(text) {
  if (status.textContent !== text) status.textContent = text; // else it would be read out again
}

/** Shows what came of an action until the next one, and moves there. */
export function notify(...content) {
  const dismiss = button("Dismiss", () => {
    hideNotice();
    document.getElementById("main").focus();
  });
  notice.replaceChildren(...content, dismiss);
  notice.hidden = false;
  notice.focus();
}

export function hideNotice() {
  notice.hidden = true;
  notice.replaceChildren();
}

/** Shows an error: title, detail, request id, and where it is explained. */
export function problem(error) {
  const told = toldBy(error);
  const wrong = (told.errors ?? []).map((one) => `${one.pointer ?? one.parameter}: ${one.detail}`);
  return make(
    "div",
    { class: "problem", role: "alert" },
    make("p", { class: "problem-title" }, told.title),
    make("p", {}, told.detail),
    wrong.length ? list(wrong) : null,
    facts([
      ["Code", told.code ? link(told.code, explanation(told.code)) : null],
      ["Request id", told.request_id ? code(told.request_id) : null],
    ]),
  );
}

function toldBy(error) {
  if (error instanceof Problem) return error.told;
  console.error(error);
  return { title: "The page made a mistake", detail: String(error) };
}

/** Shows what a promise gives, or in its place how it failed: the rest of the view stands. */
export async function shown(promise, show, signal) {
  try {
    return show(await promise);
  } catch (error) {
    if (signal.aborted || error.status === UNAUTHENTICATED) throw error;
    return problem(error);
  }
}

/** Does something for a button, which is out of use meanwhile; shows how it failed in `place`. */
export async function attempt(pressed, place, work) {
  pressed.disabled = true;
  place.replaceChildren();
  try {
    await work();
  } catch (error) {
    place.replaceChildren(problem(error));
  } finally {
    pressed.disabled = false;
  }
}

/**
 * Makes a table of a page of items, and a button as long as others follow. A column has a `name`
 * and `cell(item)`, and may have a `look`; the first one heads its row. `sorted` names the one
 * that the API sorts by.
 *
 * Roles are given although tables have them: some browsers forget them once a narrow screen has
 * the rows laid out one below the other.
 */
export function table(caption, columns, page, { sorted, signal }) {
  if (!page.items.length && !page.next) return make("p", { class: "empty" }, `${caption}: none.`);
  const body = make("tbody", { role: "rowgroup" }, rows(columns, page.items));
  const heads = columns.map((column) =>
    make("th", { scope: "col", role: "columnheader", ...order(column, sorted) }, column.name),
  );
  const whole = make(
    "table",
    { role: "table" },
    make("caption", {}, caption),
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, heads)),
    body,
  );
  const place = make("div");
  const more = page.next ? moreButton(columns, body, page.next, place, signal) : null;
  return make("div", { class: "listing" }, whole, place, more);
}

function order(column, sorted) {
  return column.name === sorted ? { "aria-sort": "ascending" } : {};
}

function rows(columns, items) {
  const [head, ...others] = columns;
  const heading = { scope: "row", role: "rowheader", tabindex: -1, ...label(head) };
  return items.map((item) =>
    make(
      "tr",
      { role: "row" },
      make("th", heading, head.cell(item)),
      others.map((one) => make("td", { role: "cell", ...label(one) }, one.cell(item))),
    ),
  );
}

function label({ name, look }) {
  return { "data-label": name, class: look };
}

function moreButton(columns, body, next, place, signal) {
  let following = next;
  const more = button("Load more", () => attempt(more, place, load), { class: "more" });
  async function load() {
    const page = await get(following, { signal });
    const added = rows(columns, page.items);
    body.append(...added);
    following = page.next;
    announce(`${plural(added.length, "row")} added.`);
    // Where it was pressed last there is nothing left to press.
    if (added.length) added[0].firstChild.focus();
    if (!following) more.remove();
  }
  return more;
}

/** Makes a labelled field of a form. */
export function field(text, input, hint) {
  const id = newId("field");
  input.id = id;
  const told = hint ? make("small", { id: `${id}-hint` }, hint) : null;
  if (told) input.setAttribute("aria-describedby", told.id);
  return make("div", { class: "field" }, make("label", { for: id }, text), input, told);
}

export function choice(name, options, chosen) {
  const rows = options.map(([value, text]) =>
    make("option", { value, selected: value === chosen }, text),
  );
  return make("select", { name }, rows);
}

/** Makes a form that narrows a list: what is entered becomes the view's address. */
export function filters(address, fields) {
  const apply = (event) => {
    event.preventDefault();
    const entered = [...new FormData(event.target)].filter(([, value]) => value.trim());
    location.hash = entered.length ? `${address}?${new URLSearchParams(entered)}` : address;
  };
  const send = make("button", { type: "submit" }, "Show");
  return make("form", { class: "filters", on: { submit: apply } }, fields, send);
}
