// Tells people beside a form that was sent in place if no page of the panel answers: its gate or a proxy refuses the
// request, or nothing comes back. What was typed stays.

import { fill, gettext } from "../words.js";
import { sayAll } from "./say.js";

export const AWAY = gettext(
  "The panel cannot be reached, so this may or may not have been done. Check your connection, look whether it was done, " +
    "and send it again if not.",
);
const TOO_LARGE = gettext("What you sent is too large for the panel.");
const SHORTEN = gettext("Nothing was done. Make it shorter, and send it again.");
const TOO_MANY = gettext("Too much was sent from your address at once. Nothing was done. Wait a moment, and send it again.");
const DOWN = gettext(
  "The panel does not answer at the moment (%(status)s), so this may or may not have been done. Wait a moment, look " +
    "whether it was done, and send it again if not.",
);
const SIGNED_OUT = gettext("You are signed out. Sign in again in another tab, then send it again.");
const OTHER = gettext("The panel did not accept this (%(status)s). Reload the page, and try again.");

// Return what happened and what to do. The gate refuses scripts in a sentence as plain text; a proxy sends a page of its
// own. The panel's pages about its own faults say it themselves.
export function explain({ status, redirected, headers }, text, page) {
  const told = [...(page?.querySelectorAll("main [role=alert]") ?? [])].map((one) => one.textContent.trim());
  if (told.length) return told.join(" ");
  const isSentence = headers.get("Content-Type")?.startsWith("text/plain");
  if (status === 413) return `${isSentence ? text.trim() : TOO_LARGE} ${SHORTEN}`;
  if (isSentence) return text.trim();
  if (redirected) return SIGNED_OUT;
  if (status === 429) return TOO_MANY;
  return fill(status >= 500 ? DOWN : OTHER, { status });
}

// Show `text` at the end of `form`, or remove what was shown there. A message about an earlier action is removed from the
// top of the page, because it would seem to be about this one.
export function sayAt(form, text) {
  form.querySelector("[data-refusal]")?.remove();
  if (!text) return;
  sayAll([]);
  const notice = document.createElement("p");
  notice.className = "notice refusal";
  Object.assign(notice.dataset, { kind: "error", refusal: "" });
  notice.role = "alert";
  notice.textContent = text;
  form.append(notice);
  notice.scrollIntoView({ block: "nearest" });
}
