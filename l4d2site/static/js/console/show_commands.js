// Shows the list of the latest commands as the server has rendered it.

import { swapRegions } from "../live/swap.js";

export function showCommands(root, html) {
  swapRegions(new DOMParser().parseFromString(html, "text/html"));
  // Somebody who types a command sees its answer without scrolling.
  if (!root.contains(document.activeElement)) return;
  root.querySelector("[data-command]")?.scrollIntoView({ block: "nearest" });
}
