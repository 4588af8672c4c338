// Addresses within the page: `#/registries/default/repositories/team%2Fapp?key=value`.

/** Gives the link to a view; each part is one segment, whatever is in it. */
export function to(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/** Reads the address; null where it is none of ours. */
export function here() {
  const [way, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  try {
    const parts = way.split("/").filter(Boolean).map(decodeURIComponent);
    return { parts, query: new URLSearchParams(query) };
  } catch {
    return null; // a stray percent sign
  }
}

/** Finds the first row whose pattern fits; gives its view and what `:names` stand for. */
export function find(table, parts) {
  for (const [pattern, view] of table) {
    const names = matched(pattern.split("/").filter(Boolean), parts);
    if (names) return { view, names };
  }
  return null;
}

function matched(pattern, parts) {
  if (pattern.length !== parts.length) return null;
  const names = {};
  for (const [place, wanted] of pattern.entries()) {
    if (wanted.startsWith(":")) names[wanted.slice(1)] = parts[place];
    else if (wanted !== parts[place]) return null;
  }
  return names;
}
