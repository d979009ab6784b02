// Asks before somebody leaves a changed form that is marked `data-unsaved`. A form that came back because it was
// refused is marked `data-unsaved="refused"`: its input is not saved.

let isSent = false;

function isChanged(control) {
  if (control.type === "hidden" || control.disabled) return false;
  if (control.options) return isChosenAnew([...control.options], control.multiple);
  if (["checkbox", "radio"].includes(control.type)) return control.checked !== control.defaultChecked;
  return control.defaultValue !== undefined && control.value !== control.defaultValue;
}

function isChosenAnew(options, isMultiple) {
  const isSaid = isMultiple || options.some((one) => one.defaultSelected);
  // If the page selects none, a browser shows the first one.
  return options.some((one, index) => one.selected !== (isSaid ? one.defaultSelected : index === 0));
}

function isUnsaved(form) {
  return form.dataset.unsaved === "refused" || [...form.elements].some(isChanged);
}

// A form that is sent in place does not leave the page.
document.addEventListener("submit", (event) => (isSent = !event.defaultPrevented));
window.addEventListener("pageshow", () => (isSent = false));

window.addEventListener("beforeunload", (event) => {
  const forms = [...document.querySelectorAll("form[data-unsaved]")];
  if (!isSent && forms.some(isUnsaved)) event.preventDefault();
});
