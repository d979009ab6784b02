// Brings files to an overlay: chosen, or dropped onto the form. Without this the form sends what is small.

import { refresh } from "../live/refresh.js";
import { listChosen, listDropped } from "./dropped_files.js";
import { planParts } from "./parts.js";
import { Progress } from "./progress.js";
import { Sending } from "./sending.js";

const find = (name, root = document) => root.querySelector(`[data-upload-${name}]`);
const form = find("form");
const error = find("error");

let sending = null;
let resumed = null;
let upload = null;

async function ask(address, method = "GET", body = undefined) {
  const headers = { Accept: "application/json" };
  if (method === "POST") headers["X-CSRFToken"] = form.elements.csrfmiddlewaretoken.value;
  const response = await fetch(address, { method, body, headers, cache: "no-store" });
  const isTold = response.headers.get("Content-Type")?.startsWith("application/json");
  const told = isTold ? await response.json() : {};
  if (!response.ok) throw new Error(told.error ?? `The panel answered ${response.status}.`);
  return told;
}

function say(text) {
  error.textContent = text;
  error.hidden = !text;
}

async function begin() {
  const fields = new FormData(form);
  fields.delete("files");
  return ask(form.action, "POST", fields);
}

async function start(files, progress) {
  if (!files.length || sending) return;
  say("");
  try {
    upload = resumed ? await ask(resumed) : await begin();
    sending = new Sending(planParts(files), upload.parts, upload.parts_url, () => progress.show(sending));
    form.hidden = true;
    sending.go();
    await sending.done;
    await ask(upload.finish_url, "POST");
    form.reset();
  } catch (fault) {
    say(fault.message);
  } finally {
    end(progress);
  }
}

function end(progress) {
  sending = upload = resumed = null;
  form.hidden = false;
  find("again").hidden = true;
  progress.hide();
  find("pause").hidden = false;
  find("continue").hidden = true;
  refresh();
}

function listen(progress) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start(listChosen(form.elements.files.files), progress);
  });
  const drop = find("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.toggleAttribute("data-over", name === "dragover");
    });
  }
  drop.addEventListener("drop", async (event) => start(await listDropped(event.dataTransfer), progress));
  find("folder").addEventListener("click", () => chooseFolder(progress));
  find("pause").addEventListener("click", () => toggle(true));
  find("continue").addEventListener("click", () => toggle(false));
  find("cancel").addEventListener("click", () => cancel());
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-upload-resume]");
    if (!button) return;
    resumed = button.dataset.uploadResume;
    find("again").hidden = false;
    form.elements.files.focus();
  });
  form.elements.files.addEventListener("change", () => {
    if (resumed) start(listChosen(form.elements.files.files), progress);
  });
}

function chooseFolder(progress) {
  const input = Object.assign(document.createElement("input"), { type: "file", webkitdirectory: true });
  input.addEventListener("change", () => start(listChosen(input.files), progress));
  input.click();
}

function toggle(isPaused) {
  find("pause").hidden = isPaused;
  find("continue").hidden = !isPaused;
  if (isPaused) sending?.pause();
  else sending?.go();
}

async function cancel() {
  const address = upload?.discard_url;
  const mine = sending;
  await mine?.pause();
  let said = "The upload was cancelled, and what had arrived is discarded.";
  if (address) await ask(address, "POST").catch((fault) => (said = fault.message));
  mine?.reject(new Error(said));
}

window.addEventListener("beforeunload", (event) => sending && event.preventDefault());

if (form) listen(new Progress(find("progress")));
