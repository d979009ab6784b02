// Takes files that are dropped anywhere on the page. If one missed the form, the browser would leave the page for it.

import { gettext } from "../words.js";
import { listDropped } from "./dropped_files.js";

const UNREADABLE = gettext("What you dropped could not be read. Choose the files or the folder instead.");

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

export function listenToDrops(place, start, say) {
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      place.toggleAttribute("data-over", name === "dragover");
    });
  }
  document.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    try {
      start(await listDropped(event.dataTransfer));
    } catch {
      say(UNREADABLE);
    }
  });
}
