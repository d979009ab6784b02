// Asks the panel about an upload, in JSON.

import { fill, gettext } from "../words.js";

const AWAY = gettext("The panel does not answer. Check your connection, then try again: what has arrived is kept.");
const SIGNED_OUT = gettext(
  "You are signed out. Sign in again in another tab, then try again: what has arrived is kept.",
);

export async function ask(address, { method = "GET", body, form } = {}) {
  const headers = { Accept: "application/json" };
  if (method === "POST") headers["X-CSRFToken"] = readToken() ?? form.elements.csrfmiddlewaretoken.value;
  const response = await fetch(address, { method, body, headers, cache: "no-store" }).catch(() => {
    throw new Error(AWAY);
  });
  if (response.redirected) throw new Error(SIGNED_OUT);
  const isTold = response.headers.get("Content-Type")?.startsWith("application/json");
  const told = isTold ? await response.json() : {};
  if (response.ok) return told;
  throw new Error(told.error ?? fill(gettext("The panel answered %(status)s."), { status: response.status }));
}

// A form's own token becomes invalid when somebody signs in again in another tab.
function readToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
}
