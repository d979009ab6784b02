// The rows of a blueprint's overlays: which number each has in the form, and which moves it offers.

import { fill, gettext } from "../words.js";

export const list = (name) => document.querySelector(`[data-places=${name}]`);
export const button = (place, way) => place.querySelector(`[name=move][value^="${way} "]`);

// Renumber the places, and offer each the moves that it can make.
export function settle() {
  const chosen = [...list("chosen").children];
  for (const place of document.querySelectorAll("[data-place]")) {
    const at = chosen.indexOf(place);
    place.querySelector("input[type=hidden]").value = at < 0 ? "" : at + 1;
    place.querySelector("[data-drag]").hidden = at < 0;
    for (const way of ["up", "down", "out"]) button(place, way).hidden = at < 0;
    button(place, "add").hidden = at >= 0;
    button(place, "up").disabled = at === 0;
    button(place, "down").disabled = at === chosen.length - 1;
  }
  list("chosen").closest("form").dataset.unsaved = "refused"; // Hidden fields do not count as changed.
}

export function say(place) {
  const chosen = [...list("chosen").children];
  const words = { name: place.dataset.place, place: chosen.indexOf(place) + 1, count: chosen.length };
  const text = words.place ? gettext("%(name)s is now %(place)s of %(count)s.") : gettext("%(name)s is left out.");
  document.querySelector("[data-places-said]").textContent = fill(text, words);
}
