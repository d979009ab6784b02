// Buttons that copy their `data-copy`; without scripts they stay hidden.

import { copyText } from "./copy_text.js";
import { gettext } from "../words.js";

// Show the buttons below `root`.
export function showCopyButtons(root = document) {
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  await copyText(button.dataset.copy);
  const label = button.textContent;
  button.textContent = gettext("Copied");
  setTimeout(() => (button.textContent = label), 1_500);
});

showCopyButtons();
