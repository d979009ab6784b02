// The overlays of a blueprint in their order: moved by their buttons, by Alt with an arrow key, and by dragging. Without
// scripts the buttons send the form, and the page comes back in the new order.

import { followDrags } from "./dragging.js";
import { button, list, say, settle } from "./place_rows.js";

const CHOSEN = "[data-places=chosen]";
const KEYS = { ArrowUp: "up", ArrowDown: "down" };

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
