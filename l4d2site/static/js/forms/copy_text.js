// Copies texts, also where browsers would rather not.

import { gettext } from "../words.js";

// Copy `text`. Over plain HTTP, to any address but this machine's own, there is no clipboard for scripts: then by
// way of a selection, and, where that is refused too, of a box in which the text stands selected.
export async function copyText(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch {
      // The browser keeps it from this page; the older way may still be open.
    }
  }
  const focused = document.activeElement;
  const box = document.createElement("textarea");
  box.value = text;
  box.readOnly = true;
  box.className = "visually-hidden";
  box.ariaLabel = gettext("Text to copy");
  document.body.append(box);
  box.select();
  const isCopied = document.execCommand("copy");
  box.remove();
  focused?.focus({ preventScroll: true });
  if (!isCopied) window.prompt(gettext("The browser does not let this page copy. Copy it from here:"), text);
}
