// Uploads files to an overlay: chosen, or dropped onto the page. Without this the form sends what is small.

import { refresh } from "../live/refresh.js";
import { gettext } from "../words.js";
import { ask } from "./asking.js";
import { listChosen } from "./dropped_files.js";
import { listenToDrops } from "./dropping.js";
import { planParts } from "./parts.js";
import { Progress } from "./progress.js";
import { Sending } from "./sending.js";

const find = (name, root = document) => root.querySelector(`[data-upload-${name}]`);
const form = find("form");
const error = find("error");
const progress = form && new Progress(find("progress"));

let isBusy = false;
let sending = null;
let resumed = null;
let upload = null;

function say(text, kind = "error") {
  error.dataset.kind = kind;
  error.textContent = text;
  error.hidden = !text;
}

function begin() {
  const fields = new FormData(form);
  fields.delete("files");
  return ask(form.action, { method: "POST", body: fields, form });
}

async function start(files) {
  if (isBusy) return say(gettext("This page is already uploading. Wait until that is done, or cancel it."), "warning");
  if (!files.length) return say(gettext("There are no files in that. Choose some first."));
  isBusy = form.hidden = true;
  say("");
  progress.prepare(files.length);
  try {
    upload = resumed ? await ask(resumed) : await begin();
    sending = new Sending(planParts(files), upload.parts, upload.parts_url, { onChange, onHold });
    sending.go();
    await sending.done;
    await ask(upload.finish_url, { method: "POST", form });
    form.reset();
  } catch (fault) {
    say(fault.message, fault.isAsked ? "success" : "error");
  } finally {
    end();
  }
}

function onChange() {
  progress.show(sending);
  showOthers(upload.id);
}

// Sending has stopped: it continues by a button, or once there is a network again.
function onHold(reason) {
  say(reason);
  showPaused(true);
}

function end() {
  sending = upload = resumed = null;
  isBusy = form.hidden = false;
  find("again").hidden = true;
  progress.hide();
  showPaused(false);
  showOthers(null);
  refresh();
}

// The one that this page sends has its progress shown already.
function showOthers(own) {
  for (const row of document.querySelectorAll("[data-upload-row]")) row.hidden = row.dataset.uploadRow === String(own);
}

function showPaused(isPaused) {
  find("pause").hidden = isPaused;
  find("continue").hidden = !isPaused;
}

function goOn() {
  if (!sending?.isPaused) return;
  say("");
  showPaused(false);
  sending.go();
}

function pause() {
  showPaused(true);
  sending?.pause();
}

async function cancel() {
  if (!upload) return;
  const mine = sending;
  await mine?.pause();
  let fault = Object.assign(new Error(gettext("The upload was cancelled, and what had arrived was discarded.")), {
    isAsked: true,
  });
  await ask(upload.discard_url, { method: "POST", form }).catch((reason) => (fault = reason));
  mine?.reject(fault);
}

function chooseFolder() {
  const input = Object.assign(document.createElement("input"), { type: "file", webkitdirectory: true });
  input.addEventListener("change", () => start(listChosen(input.files)));
  input.click();
}

function resume(address) {
  resumed = address;
  find("again").hidden = false;
  form.elements.files.focus();
  find("again").scrollIntoView({ block: "nearest" });
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
    if (resumed) start(listChosen(form.elements.files.files));
  });
  window.addEventListener("online", () => error.hidden || goOn());
  window.addEventListener("beforeunload", (event) => isBusy && event.preventDefault());
}

if (form) listen();
