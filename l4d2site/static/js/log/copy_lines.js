// The button that copies lines: those that the address names, otherwise all that are shown.

import { copyText } from "../forms/copy_text.js";
import { readRange } from "./permalink.js";
import { fill, gettext } from "../words.js";

function rowsOf(frame) {
  const selected = frame.querySelectorAll(".log-line[aria-current]");
  return [...(selected.length ? selected : frame.querySelectorAll(".log-line"))];
}

function showLabel(button) {
  const [first, last] = readRange() ?? [];
  if (first === undefined) button.textContent = gettext("Copy shown lines");
  else if (first === last) button.textContent = fill(gettext("Copy line %(line)s"), { line: first });
  else button.textContent = fill(gettext("Copy lines %(first)s–%(last)s"), { first, last });
}

for (const button of document.querySelectorAll("[data-log-copy]")) {
  button.hidden = false;
  showLabel(button);
  document.addEventListener("saferoom:selection", () => showLabel(button));
  button.addEventListener("click", async () => {
    const rows = rowsOf(button.closest("[data-log-frame]"));
    await copyText(rows.map((row) => `${row.textContent}\n`).join(""));
    button.textContent = gettext("Copied");
    setTimeout(() => showLabel(button), 1_500);
  });
}
