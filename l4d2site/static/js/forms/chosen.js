// Shows in full, below a list to choose from, what is chosen there if the closed list is too narrow for it.

const ARROW_PX = 24;
const pen = document.createElement("canvas").getContext("2d");

function isCut(select, text) {
  const style = getComputedStyle(select);
  const padding = parseFloat(style.paddingInlineStart) + parseFloat(style.paddingInlineEnd);
  pen.font = style.font;
  const isLong = pen.measureText(text).width > select.clientWidth - padding - ARROW_PX;
  return select.clientWidth > 0 && isLong && widthOfChoices(select) > select.clientWidth;
}

// How wide a list is that cuts none of its choices.
function widthOfChoices(select) {
  const free = { inlineSize: "max-content", maxInlineSize: "none", minInlineSize: "0" };
  Object.assign(select.style, free);
  const width = select.clientWidth;
  for (const name of Object.keys(free)) select.style[name] = "";
  return width;
}

function showChosenOf(select) {
  const text = select.selectedOptions[0]?.text ?? "";
  let shown = select.nextElementSibling?.matches("[data-chosen]") ? select.nextElementSibling : null;
  if (!isCut(select, text)) return shown?.remove();
  if (!shown) {
    shown = document.createElement("span");
    shown.className = "chosen";
    shown.dataset.chosen = "";
    shown.ariaHidden = "true"; // Screen readers read the list itself, which is not cut for them.
    select.after(shown);
  }
  shown.textContent = text;
}

// Look at all lists below `root`.
export function showChosen(root = document) {
  for (const select of root.querySelectorAll("select:not([multiple])")) showChosenOf(select);
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("select:not([multiple])")) showChosenOf(target);
});
// What is folded has no width until it is unfolded.
document.addEventListener("toggle", ({ target }) => showChosen(target), { capture: true });
addEventListener("resize", () => showChosen());
addEventListener("pageshow", () => showChosen()); // A browser may restore another choice.
showChosen();
