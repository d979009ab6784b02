// Menus are `details` with `data-menu`, so that they open without scripts. This closes them: by Escape, by a click
// elsewhere, by a link with `data-menu-close`, when the focus leaves, when another one opens, and when a form in them
// is sent.

const OPEN = "details[data-menu][open]";

function close(menu, isFocused) {
  menu.removeAttribute("open");
  if (isFocused) menu.querySelector("summary").focus({ preventScroll: true });
}

function closeAllBut(kept) {
  for (const menu of document.querySelectorAll(OPEN)) {
    if (!menu.contains(kept)) close(menu, false);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll(OPEN)) close(menu, menu.contains(document.activeElement));
});

document.addEventListener("click", (event) => {
  closeAllBut(event.target);
  const link = event.target.closest?.("[data-menu-close]");
  const menu = link?.closest(OPEN);
  if (!menu) return;
  event.preventDefault();
  close(menu, true);
});

// A click on the menu's own padding moves the focus to what is around it, or to nothing: that does not leave it.
document.addEventListener("focusout", ({ target, relatedTarget }) => {
  const menu = target.closest?.(OPEN);
  if (!menu || !relatedTarget || menu.contains(relatedTarget) || relatedTarget.contains(menu)) return;
  close(menu, false);
});

document.addEventListener("submit", (event) => {
  const menu = event.target.closest?.(OPEN);
  if (menu) close(menu, true);
});
