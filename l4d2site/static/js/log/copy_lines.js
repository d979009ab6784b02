// The button that copies lines: those that the address means, else all that are shown.

import { copyText } from "../forms/copy_text.js";
import { readRange } from "./permalink.js";

function rowsOf(frame) {
  const selected = frame.querySelectorAll(".log-line[aria-current]");
  return [...(selected.length ? selected : frame.querySelectorAll(".log-line"))];
}

function showLabel(button) {
  const [first, last] = readRange() ?? [];
  if (first === undefined) button.textContent = "Copy shown lines";
  else button.textContent = first === last ? `Copy line ${first}` : `Copy lines ${first}–${last}`;
}

for (const button of document.querySelectorAll("[data-log-copy]")) {
  button.hidden = false;
  showLabel(button);
  document.addEventListener("saferoom:selection", () => showLabel(button));
  button.addEventListener("click", async () => {
    const rows = rowsOf(button.closest("[data-log-frame]"));
    await copyText(rows.map((row) => `${row.textContent}\n`).join(""));
    button.textContent = "Copied";
    setTimeout(() => showLabel(button), 1_500);
  });
}
