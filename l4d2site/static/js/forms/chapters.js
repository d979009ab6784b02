// The chapters of a campaign follow the choice of it. Without scripts a button shows them.

import { swap } from "../live/swap.js";
import { gettext } from "../words.js";
import { sayAt } from "./refusals.js";

const NOT_LOADED = gettext(
  "The chapters of that campaign could not be loaded. Check your connection, and choose it again.",
);

async function showChapters(select) {
  const address = `${select.dataset.shows}?${new URLSearchParams({ campaign: select.value })}`;
  const region = select.form.querySelector("[data-answer=chapters]");
  const wanted = select.value;
  region.ariaBusy = "true";
  const update = await load(address).catch(() => null);
  if (select.value !== wanted) return; // Another one has been chosen meanwhile.
  region.ariaBusy = "false";
  sayAt(select.form, update ? "" : NOT_LOADED);
  for (const one of select.options) {
    // The choice goes back to the campaign whose chapters are still shown.
    if (update) one.defaultSelected = one.value === wanted;
    else one.selected = one.defaultSelected;
  }
  if (!update) return;
  swap(region, update);
  history.replaceState(null, "", address);
}

async function load(address) {
  const response = await fetch(address, { redirect: "error", cache: "no-store" });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return page.querySelector("[data-answer=chapters]");
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("select[data-shows]")) showChapters(target);
});
