// Where the focus goes when an update replaces what had it: to what has the same name, or otherwise to the job that takes
// its place.

const FOCUSABLE = "a, button, summary, input, [tabindex]";

let lost = null; // Where something was that had the focus and has no successor of its name.

// Return a function that restores the focus in what replaced the region.
export function keepFocus(region) {
  const focused = document.activeElement;
  if (!region.contains(focused)) return () => {};
  const name = nameOf(focused);
  const rowId = focused.closest("tr")?.querySelector("[id]")?.id;
  return () => {
    const heir = [...region.querySelectorAll(FOCUSABLE)].find((one) => nameOf(one) === name);
    if (heir) heir.focus({ preventScroll: true });
    else lost = { region, rowId };
  };
}

// Focus what took the place of a vanished button: its row in a list, or a job. Call it once all regions are replaced,
// because the job may be in another one.
export function replaceLostFocus() {
  if (lost && document.activeElement === document.body) {
    const { region, rowId } = lost;
    const inRow = rowId && document.getElementById(rowId)?.closest("tr")?.querySelector("a");
    const heir = inRow || region.querySelector(".strip") || document.querySelector(".strip") || region;
    if (heir !== inRow) heir.tabIndex = -1;
    heir.focus({ preventScroll: true });
  }
  lost = null;
}

function nameOf(element) {
  return element.ariaLabel || element.textContent.trim() || element.id;
}
