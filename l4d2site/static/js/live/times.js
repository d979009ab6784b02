// Shows how long ago a time was, beside the server's text, which stays as the title.

import { gettext } from "../words.js";

const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];
const OLDEST_SECONDS = 7 * 86_400;
// Between two updates a time may be so much older than it says.
const EVERY_SECONDS = 15;
const format = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto", style: "short" });

// Update the times below `root`.
export function showTimes(root = document) {
  for (const time of root.querySelectorAll("time[data-ago]")) {
    time.title ||= time.textContent;
    time.textContent = describe(new Date(time.dateTime)) ?? time.title;
  }
  for (const time of root.querySelectorAll("time[data-lasts]")) {
    time.textContent = describeAge((Date.now() - new Date(time.dateTime)) / 1_000);
  }
}

function describe(date) {
  const seconds = (Date.now() - date) / 1_000;
  if (seconds > OLDEST_SECONDS) return null;
  for (const [unit, size] of UNITS) {
    if (seconds >= size) return format.format(-Math.floor(seconds / size), unit);
  }
  if (seconds >= EVERY_SECONDS) return format.format(-Math.floor(seconds), "second");
  return gettext("just now");
}

// The same words as in `servers/durations.py`.
function describeAge(seconds) {
  const minutes = Math.floor(Math.max(seconds, 0) / 60);
  const hours = Math.floor(minutes / 60);
  if (!minutes) return `${Math.floor(Math.max(seconds, 0))} s`;
  if (!hours) return `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

showTimes();
setInterval(() => showTimes(), EVERY_SECONDS * 1_000);
