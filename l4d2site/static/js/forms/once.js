// Sends a form once for a double click: the second one would ask for what is being done already.

const DOUBLE_CLICK_MS = 1_000;

let last = null;
let lastAt = -Infinity;

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form === last && event.timeStamp - lastAt < DOUBLE_CLICK_MS) event.preventDefault();
  [last, lastAt] = [form, event.timeStamp];
});
window.addEventListener("pageshow", () => (last = null));
