// Copies texts, even if the browser makes that hard.

import { gettext } from "../words.js";

// Copy `text`. Over plain HTTP, scripts have no clipboard unless the address is this machine's own. Then it uses a
// selection and, if that is refused too, a box with the text selected.
export async function copyText(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch {
      // The browser refuses this page the clipboard; the older way may still work.
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
