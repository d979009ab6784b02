// How lines are shown, chosen by the boxes with `data-log-option` and remembered for the next page.

import { keepPlace } from "./keep_place.js";

// A browser may refuse a page any storage; then a choice applies only to this page.
function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

for (const box of document.querySelectorAll("[data-log-option]")) {
  const key = `log-${box.dataset.logOption}`;
  const kept = storage()?.getItem(key);
  if (kept) box.checked = kept === "on";
  box.addEventListener("change", () => {
    storage()?.setItem(key, box.checked ? "on" : "off");
    keepReader(box);
  });
}

// A choice changes the height of lines, but must not move the reader elsewhere.
function keepReader(box) {
  const log = box.closest("[data-log-frame]").querySelector("[data-log]");
  box.checked = !box.checked;
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  keepPlace(log, isAtEnd ? null : firstInView(log), () => (box.checked = !box.checked));
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

// Blocks first: a row that is not in view has no position until the browser is asked for it.
function firstInView(log) {
  const top = log.getBoundingClientRect().top;
  const isBelowTop = (element) => element.getBoundingClientRect().bottom > top;
  const block = [...log.querySelectorAll(".log-block")].find(isBelowTop);
  return block && [...block.children].find(isBelowTop);
}
