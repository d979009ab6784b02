// The overlays of a blueprint in their order: moved by their buttons, by Alt with an arrow key, and by dragging. Without
// scripts the buttons send the form, and the page comes back in the new order.

import { followDrags } from "./dragging.js";
import { fill, gettext } from "../words.js";

const CHOSEN = "[data-places=chosen]";
const KEYS = { ArrowUp: "up", ArrowDown: "down" };
const list = (name) => document.querySelector(`[data-places=${name}]`);
const button = (place, way) => place.querySelector(`[name=move][value^="${way} "]`);

const moves = {
  up: (place) => place.previousElementSibling?.before(place),
  down: (place) => place.nextElementSibling?.after(place),
  out: (place) => list("rest").prepend(place),
  add: (place) => list("chosen").append(place),
};

function move(place, way) {
  moves[way](place);
  settle();
  // A browser takes the focus from what is moved.
  const ways = way === "out" ? ["add"] : [way, "up", "down", "out"];
  const next = ways.map((one) => button(place, one)).find((one) => !one.hidden && !one.disabled);
  if (next.checkVisibility()) next.focus();
  else list("chosen").closest("fieldset").querySelector("summary").focus();
  say(place);
}

// Number the places anew, and offer of each the moves that it can make.
function settle() {
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

function say(place) {
  const chosen = [...list("chosen").children];
  const words = { name: place.dataset.place, place: chosen.indexOf(place) + 1, count: chosen.length };
  const text = words.place ? gettext("%(name)s is now %(place)s of %(count)s.") : gettext("%(name)s is left out.");
  document.querySelector("[data-places-said]").textContent = fill(text, words);
}

if (list("chosen")) {
  document.addEventListener("click", (event) => {
    const pressed = event.target.closest?.("[data-place] [name=move]");
    if (!pressed) return;
    event.preventDefault();
    move(pressed.closest("[data-place]"), pressed.value.split(" ")[0]);
  });
  document.addEventListener("keydown", (event) => {
    const place = event.target.closest?.(`${CHOSEN} [data-place]`);
    if (!place || !event.altKey || !KEYS[event.key] || event.target.matches("select")) return;
    event.preventDefault();
    move(place, KEYS[event.key]);
  });
  for (const one of document.querySelectorAll("[data-scripted]")) one.hidden = false;
  for (const place of list("chosen").children) place.querySelector("[data-drag]").hidden = false;
  followDrags(CHOSEN, (place) => {
    settle();
    say(place);
  });
}
