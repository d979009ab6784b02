// Regions that change only by the answer to a form inside them: those marked `data-answer`. An answer to another form on
// the page leaves what is typed there alone.

import { sources } from "./sources.js";
import { swap } from "./swap.js";

// Swap the one that holds `form` for what `answer`, a page, has in its place; returns whether there is one.
export function swapAnswer(answer, form) {
  const region = form.closest("[data-answer]");
  const update = region && answer.querySelector(`[data-answer="${CSS.escape(region.dataset.answer)}"]`);
  if (!update) return false;
  swap(region, update);
  for (const live of region.querySelectorAll("[data-live]")) sources.set(live.dataset.live, live.innerHTML);
  // To what is to be put right, or to what has come in the form's place.
  region.querySelector(".has-errors :is(input, select, textarea), [tabindex='-1']")?.focus();
  return true;
}
