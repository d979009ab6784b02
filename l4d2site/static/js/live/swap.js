// Puts the contents of a newly fetched page's live regions into those of the open page.

import { showChosen } from "../forms/chosen.js";
import { showCopyButtons } from "../forms/copy.js";
import { showSecretsAgain } from "../forms/secrets.js";
import { keepFocus, replaceLostFocus } from "./focus.js";
import { keepChoices } from "./kept.js";
import { sources } from "./sources.js";
import { showTimes } from "./times.js";

// Swap the regions that differ between the open page and `fresh`.
export function swapRegions(fresh) {
  if (fresh.title) document.title = fresh.title; // Part of a page has none.
  for (const region of document.querySelectorAll("[data-live]")) {
    const name = region.dataset.live;
    const update = fresh.querySelector(`[data-live="${CSS.escape(name)}"]`);
    if (!update || isOlder(update, region)) continue;
    if (update.dataset.version) region.dataset.version = update.dataset.version;
    if (withoutTokens(update.innerHTML) === withoutTokens(sources.get(name))) continue;
    if (region.querySelector("input:not([type=checkbox]):focus, select:focus, textarea:focus")) continue;
    sources.set(name, update.innerHTML);
    swap(region, update);
  }
  replaceLostFocus();
}

// Whether a stream has brought something newer than what was fetched. A region that streams can update has a
// `data-version`.
function isOlder(update, region) {
  return Number(update.dataset.version) < Number(region.dataset.version);
}

// The CSRF token in a form is masked differently in every answer, but means the same.
function withoutTokens(html) {
  return html.replace(/name="csrfmiddlewaretoken" value="[^"]*"/g, "");
}

// Keep the region itself, so that screen readers keep listening to it, and keep what a person did in it.
export function swap(region, update) {
  const chooseAgain = keepChoices(region);
  const openIds = [...region.querySelectorAll("details[open][id]")].map((details) => details.id);
  const restoreFocus = keepFocus(region);
  region.replaceChildren(...update.childNodes);
  showSecretsAgain(region); // Before the focus is restored, so that the button is called “Hide” again by then.
  chooseAgain();
  for (const id of openIds) document.getElementById(id)?.setAttribute("open", "");
  restoreFocus();
  showTimes(region);
  showChosen(region);
  showCopyButtons(region);
}
