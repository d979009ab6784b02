// The places of the page with the form for uploads, and what is shown there.

import { Progress } from "./progress.js";

export const find = (name) => document.querySelector(`[data-upload-${name}]`);
export const form = find("form");
export const progress = form && new Progress(find("progress"));

const error = find("error");

export const isSaid = () => !error.hidden;

export function say(text, kind = "error") {
  error.dataset.kind = kind;
  error.textContent = text;
  error.hidden = !text;
}

export function showPaused(isPaused) {
  find("pause").hidden = isPaused;
  find("continue").hidden = !isPaused;
}

// The one that this page sends has its progress shown already.
export function showOthers(own) {
  for (const row of document.querySelectorAll("[data-upload-row]")) row.hidden = row.dataset.uploadRow === String(own);
}

export function showForm() {
  form.hidden = false;
  find("again").hidden = true;
  progress.hide();
  showPaused(false);
  showOthers(null);
}

export function askForFiles() {
  find("again").hidden = false;
  form.elements.files.focus();
  find("again").scrollIntoView({ block: "nearest" });
}
