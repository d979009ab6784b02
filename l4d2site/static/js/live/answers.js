// Regions that only the answer to a form changes, whatever is typed in them: those marked `data-answer`.

import { sources } from "./sources.js";
import { swap } from "./swap.js";

// Swap those that `answer`, a page, has too; returns whether it has any.
export function swapAnswers(answer) {
  let isAnswer = false;
  for (const region of document.querySelectorAll("[data-answer]")) {
    const update = answer.querySelector(`[data-answer="${CSS.escape(region.dataset.answer)}"]`);
    if (!update) continue;
    isAnswer = true;
    swap(region, update);
    for (const live of region.querySelectorAll("[data-live]")) sources.set(live.dataset.live, live.innerHTML);
    // To what is to be put right, or to what has come in the form's place.
    region.querySelector(".has-errors :is(input, select, textarea), [tabindex='-1']")?.focus();
  }
  return isAnswer;
}
