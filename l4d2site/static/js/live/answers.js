// Regions marked `data-answer`, which change only by the answer to a form inside them. An answer to another form on
// the page does not touch the input there.

import { sources } from "./sources.js";
import { swap } from "./swap.js";

// Replace the region with `form` by its counterpart in the page `answer`; returns whether there is one.
export function swapAnswer(answer, form) {
  const region = form.closest("[data-answer]");
  const update = region && answer.querySelector(`[data-answer="${CSS.escape(region.dataset.answer)}"]`);
  if (!update) return false;
  swap(region, update);
  for (const live of region.querySelectorAll("[data-live]")) sources.set(live.dataset.live, live.innerHTML);
  // Focus what needs correction, or what replaced the form.
  region.querySelector(".has-errors :is(input, select, textarea), [tabindex='-1']")?.focus();
  return true;
}
