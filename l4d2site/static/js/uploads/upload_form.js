// Uploads files to an overlay: chosen, or dropped onto the page. Without this the form sends what is small.

import { listChosen } from "./dropped_files.js";
import { listenToDrops } from "./dropping.js";
import { askForFiles, find, form, isSaid, say, showPaused } from "./upload_page.js";
import { cancel, start, state } from "./uploading.js";

function chooseFolder() {
  const input = Object.assign(document.createElement("input"), { type: "file", webkitdirectory: true });
  input.addEventListener("change", () => start(listChosen(input.files)));
  input.click();
}

function pause() {
  showPaused(true);
  state.sending?.pause();
}

function goOn() {
  if (!state.sending?.isPaused) return;
  say("");
  showPaused(false);
  state.sending.go();
}

function resume(address) {
  state.resumed = address;
  askForFiles();
}

function listen() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start(listChosen(form.elements.files.files));
  });
  listenToDrops(find("drop"), start, say);
  find("folder").addEventListener("click", chooseFolder);
  find("pause").addEventListener("click", pause);
  find("continue").addEventListener("click", goOn);
  find("cancel").addEventListener("click", cancel);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-upload-resume]");
    if (button) resume(button.dataset.uploadResume);
  });
  form.elements.files.addEventListener("change", () => {
    if (state.resumed) start(listChosen(form.elements.files.files));
  });
  window.addEventListener("online", () => isSaid() && goOn());
  window.addEventListener("beforeunload", (event) => state.isBusy && event.preventDefault());
  document.documentElement.dataset.canUpload = "";
}

if (form) listen();
