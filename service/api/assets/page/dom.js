// Makes elements. What is shown goes in as text nodes alone: names, labels and annotations come
// from registries, so from anybody, and must never be read as markup.

/** Makes an element; `on` holds listeners by event, children that are null are left out. */
export function make(name, { on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) setAttribute(element, key, value);
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function setAttribute(element, key, value) {
  if (value === null || value === undefined || value === false) return;
  element.setAttribute(key, value === true ? "" : String(value));
}

export function link(text, href) {
  return make("a", { href }, text);
}

export function button(text, click, attributes = {}) {
  return make("button", { type: "button", ...attributes, on: { click } }, text);
}

export function code(text) {
  return make("code", {}, text);
}

/** Lays out facts as a description list; those whose value is null are left out. */
export function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined);
  const rows = told.map(([term, value]) =>
    make("div", {}, make("dt", {}, term), make("dd", {}, value)),
  );
  return make("dl", { class: "facts" }, rows);
}

export function list(items) {
  return make("ul", {}, items.map((item) => make("li", {}, item)));
}

export function section(heading, ...children) {
  return make("section", {}, make("h2", {}, heading), children);
}

let count = 0;

/** Gives an id that nothing else on the page has. */
export function newId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}
