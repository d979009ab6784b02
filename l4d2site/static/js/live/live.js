// Keeps an open page up to date: whenever something changes on the server, its live regions are refreshed.

import { sayOfConnection } from "./notice.js";
import { refresh } from "./refresh.js";
import { follow } from "./stream.js";
import { gettext } from "../words.js";

// Some things change without an event, for example when a heartbeat is missing.
const UNTOLD_CHANGES_MS = 30_000;
const PATIENCE_MS = 4_000;
const LOST = gettext(
  "The connection to the panel is lost, so this page may be out of date. It keeps trying; if this notice stays, " +
    "reload the page.",
);
const WAITING = gettext("This page may be out of date. It tries again by itself.");
const REFUSED = document.querySelector("[data-unsaved]")
  ? gettext(
      "You are signed out, or may no longer see this, so nothing here can be saved. Copy what you have typed before " +
        "you reload the page.",
    )
  : gettext("You are signed out, or may no longer see this, so this page is not kept up to date. Reload it.");

const address = document.querySelector("[data-live-from]")?.dataset.liveFrom;
let lastVersion = null;
let timer = 0;

// Follow only the changes; returns a function that ends it.
export function followChanges() {
  return follow(() => address, { change: onChange }, onConnection);
}

export function onChange(event) {
  const { version } = JSON.parse(event.data);
  if (version !== undefined && version === lastVersion) return;
  lastVersion = version;
  refresh();
}

// A short reconnect, such as when the server restarts, is not worth a message.
export function onConnection(status, reason) {
  if (status === "reconnecting") {
    timer ||= setTimeout(() => sayOfConnection(LOST), PATIENCE_MS);
    return;
  }
  clearTimeout(timer);
  timer = 0;
  if (status === "waiting") sayOfConnection(`${reason} ${WAITING}`.trim());
  else sayOfConnection(status === "refused" ? REFUSED : "");
}

if (address) {
  // A page with a log gets changes through the log's own stream: see `log.js`.
  if (!document.querySelector("[data-log]")) followChanges();
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  setInterval(() => document.hidden || refresh(), UNTOLD_CHANGES_MS);
}
