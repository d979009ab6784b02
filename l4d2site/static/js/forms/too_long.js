// Texts that are far longer than the panel takes (`data-most`) are not sent: it would refuse them, and its page has only
// the beginning. So what was typed stays where it is. Without scripts, that page says so.

import { fill, gettext } from "../words.js";
import { sayAt } from "./refusals.js";

const TOO_LONG = gettext("“%(label)s” has %(count)s characters, and at most %(most)s can be saved. Shorten it, and send it again.");

document.addEventListener(
  "submit",
  (event) => {
    const form = event.target;
    const area = [...form.querySelectorAll("textarea[data-most]")].find((one) => count(one) > Number(one.dataset.most));
    if (!area) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const label = area.labels[0]?.textContent.trim() ?? area.name;
    const [length, most] = [count(area), Number(area.dataset.most)].map((number) => number.toLocaleString("en"));
    sayAt(form, fill(TOO_LONG, { label, count: length, most }));
    area.focus();
  },
  { capture: true },
);

// Return the number of characters, as the panel counts them. Only what is longer in UTF-16 needs another look.
function count({ value, dataset }) {
  return value.length > Number(dataset.most) ? [...value].length : value.length;
}
