// A person's choices in a region that are not sent yet: ticks and selections, by the ids of their controls.

// Return a function that restores the choices in what replaced the region.
export function keepChoices(region) {
  const ticked = [...region.querySelectorAll("input:is([type=checkbox], [type=radio])[id]:checked")].map((box) => box.id);
  const chosen = [...region.querySelectorAll("select[id]")].map((one) => [one.id, one.value]);
  return () => {
    for (const id of ticked) {
      const box = document.getElementById(id);
      if (box) box.checked = true;
    }
    for (const [id, value] of chosen) {
      const one = document.getElementById(id);
      if (one && [...one.options].some((option) => option.value === value)) one.value = value;
    }
  };
}
