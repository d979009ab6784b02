// Asks before a form marked `data-unsaved` is left that somebody has changed.

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

// One that is sent in place stays here.
document.addEventListener("submit", (event) => (isSent = !event.defaultPrevented));
window.addEventListener("pageshow", () => (isSent = false));

window.addEventListener("beforeunload", (event) => {
  const forms = [...document.querySelectorAll("form[data-unsaved]")];
  if (!isSent && forms.some((form) => [...form.elements].some(isChanged))) event.preventDefault();
});
