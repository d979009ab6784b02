// Selecting servers in the list: all of the page at once, all that match, and how many are selected.

import { fill, ngettext } from "../words.js";

const count = document.querySelector("[data-select-count]");
const find = (hook) => document.querySelector(`[data-select-${hook}]`);
const boxes = () => [...document.querySelectorAll(".board input[name=server]")];

function tell() {
  const ticked = boxes().filter((box) => box.checked).length;
  const [ofPage, matching] = [find("page"), find("matching")];
  if (ofPage) {
    ofPage.checked = ticked > 0 && ticked === boxes().length;
    ofPage.indeterminate = ticked > 0 && !ofPage.checked;
  }
  const number = matching?.checked ? Number(matching.dataset.selectMatching) : ticked;
  const words = ngettext("%(number)s server is selected.", "%(number)s servers are selected.", number);
  const text = number ? fill(words, { number }) : "";
  if (count.textContent !== text) count.textContent = text;
}

function onChange({ target }) {
  const matching = find("matching");
  if (target === find("page") || target === matching) {
    for (const box of boxes()) box.checked = target.checked;
  }
  // One that is taken out leaves a selection that is no longer all that match.
  if (!target.checked && matching) matching.checked = false;
  tell();
}

if (count) {
  const list = document.querySelector("[data-live=servers]");
  list.addEventListener("change", onChange);
  // What replaces the list keeps what is ticked, but not every server may be in it.
  new MutationObserver(tell).observe(list, { childList: true });
  tell(); // A page that the browser restores may have ticks.
}
