// Keeps an open page true: whenever something changed on the server, its live regions follow.

import { refresh } from "./refresh.js";
import { follow } from "./stream.js";

// Some things change without an event, such as a heartbeat that does not come.
const UNTOLD_CHANGES_MS = 30_000;
const PATIENCE_MS = 4_000;
const LOST =
  "The connection to the panel is lost: what is shown here may be out of date. Trying again; " +
  "if this stays, load the page anew.";
const WAITING = "What is shown here may be out of date; this page tries again by itself.";
const REFUSED =
  "You are signed out, or may not see this any more: what is shown here is not kept up to date. " +
  "Load the page anew.";

const address = document.querySelector("[data-live-from]")?.dataset.liveFrom;
const notice = document.querySelector("[data-connection]");
let lastVersion = null;
let timer = 0;

// Follow the changes by themselves; returns a function that ends it.
export function followChanges() {
  return follow(() => address, { change: onChange }, onConnection);
}

export function onChange(event) {
  const { version } = JSON.parse(event.data);
  if (version !== undefined && version === lastVersion) return;
  lastVersion = version;
  refresh();
}

// A reconnect of a moment, as when the server restarts, is nobody's business.
export function onConnection(status, reason) {
  if (status === "reconnecting") {
    timer ||= setTimeout(() => say(LOST), PATIENCE_MS);
    return;
  }
  clearTimeout(timer);
  timer = 0;
  if (status === "waiting") say(`${reason} ${WAITING}`.trim());
  else say(status === "refused" ? REFUSED : "");
}

function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

if (address) {
  // A page with a log hears of changes through the log's own stream: see `log.js`.
  if (!document.querySelector("[data-log]")) followChanges();
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  setInterval(() => document.hidden || refresh(), UNTOLD_CHANGES_MS);
}
