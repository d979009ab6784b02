// Asks before a form marked `data-unsaved` is left that somebody has changed. One that came back as it was refused
// is marked `data-unsaved="refused"`: what stands in it was typed, and is not saved.

let isSent = false;

function isChanged(control) {
  if (control.type === "hidden" || control.disabled) return false;
  if (control.options) return isChosenAnew([...control.options], control.multiple);
  if (["checkbox", "radio"].includes(control.type)) return control.checked !== control.defaultChecked;
  return control.defaultValue !== undefined && control.value !== control.defaultValue;
}

function isChosenAnew(options, isMultiple) {
  const isSaid = isMultiple || options.some((one) => one.defaultSelected);
  // Where the page chooses none, a browser shows the first one.
  return options.some((one, index) => one.selected !== (isSaid ? one.defaultSelected : index === 0));
}

function isUnsaved(form) {
  return form.dataset.unsaved === "refused" || [...form.elements].some(isChanged);
}

// One that is sent in place stays here.
document.addEventListener("submit", (event) => (isSent = !event.defaultPrevented));
window.addEventListener("pageshow", () => (isSent = false));

window.addEventListener("beforeunload", (event) => {
  const forms = [...document.querySelectorAll("form[data-unsaved]")];
  if (!isSent && forms.some(isUnsaved)) event.preventDefault();
});
