// How lines are shown, at the boxes with `data-log-option`: remembered for the next page.

// A browser may keep storage from a page altogether; then a choice holds for this page.
function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

for (const box of document.querySelectorAll("[data-log-option]")) {
  const key = `log-${box.dataset.logOption}`;
  const kept = storage()?.getItem(key);
  if (kept) box.checked = kept === "on";
  box.addEventListener("change", () => {
    storage()?.setItem(key, box.checked ? "on" : "off");
    keepPlace(box);
  });
}

// What a choice does to the height of lines must not carry the reader elsewhere.
function keepPlace(box) {
  const log = box.closest("[data-log-frame]").querySelector("[data-log]");
  box.checked = !box.checked;
  const top = log.getBoundingClientRect().top;
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  const row = [...log.querySelectorAll(".log-line")].find((one) => one.getBoundingClientRect().bottom > top);
  const before = row?.getBoundingClientRect().top;
  box.checked = !box.checked;
  if (isAtEnd) log.scrollTop = log.scrollHeight;
  else if (row) log.scrollTop += row.getBoundingClientRect().top - before;
}
