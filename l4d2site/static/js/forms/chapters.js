// The chapters of a campaign follow the choice of it. Without scripts a button shows them.

import { swap } from "../live/swap.js";

async function showChapters(select) {
  const address = `${select.dataset.shows}?${new URLSearchParams({ campaign: select.value })}`;
  const region = select.form.querySelector("[data-answer=chapters]");
  const wanted = select.value;
  region.ariaBusy = "true";
  try {
    const response = await fetch(address, { redirect: "error", cache: "no-store" });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const update = page.querySelector("[data-answer=chapters]");
    if (select.value !== wanted || !update) return; // Another one has been chosen meanwhile.
    swap(region, update);
    history.replaceState(null, "", address);
  } catch {
    // The panel refuses a chapter of another campaign, and then shows those of this one.
  } finally {
    if (select.value === wanted) region.ariaBusy = "false";
  }
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("select[data-shows]")) showChapters(target);
});
