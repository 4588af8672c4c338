// Who is signed in. The token is kept for this tab alone, and is gone when it is closed.
const KEY = "registry-admin-token";

let me = null;

export function token() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function caller() {
  return me;
}

export function begin(secret, who) {
  sessionStorage.setItem(KEY, secret);
  me = who;
}

export function end() {
  sessionStorage.removeItem(KEY);
  me = null;
}

/** Tells whether the token holds a scope: what it may not do is not offered. */
export function may(scope) {
  return Boolean(me && (me.scopes.includes("admin") || me.scopes.includes(scope)));
}
