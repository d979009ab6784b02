// The one upload that this page sends: from the files to the job that makes a version of them.

import { refresh } from "../live/refresh.js";
import { gettext } from "../words.js";
import { ask } from "./asking.js";
import { joinKnown } from "./known_parts.js";
import { planParts } from "./parts.js";
import { Sending } from "./sending.js";
import { form, progress, say, showForm, showOthers, showPaused } from "./upload_page.js";

const BUSY = gettext("This page is already uploading. Wait until that is done, or cancel it.");
const EMPTY = gettext("There are no files in that. Choose some first.");
const CANCELLED = gettext("The upload was cancelled, and what had arrived was discarded.");

// `resumed` is the address of an upload that is to be continued, or null.
export const state = { isBusy: false, sending: null, upload: null, resumed: null };

export async function start(files) {
  if (state.isBusy) return say(BUSY, "warning");
  if (!files.length) return say(EMPTY);
  state.isBusy = form.hidden = true;
  say("");
  progress.prepare(files.length);
  try {
    const upload = (state.upload = state.resumed ? await ask(state.resumed) : await begin());
    const parts = joinKnown(planParts(files), upload.parts);
    const onChange = () => (progress.show(state.sending), showOthers(upload.id));
    // Sending has stopped: it continues by a button, or once there is a network again.
    const onHold = (reason) => (say(reason), showPaused(true));
    state.sending = new Sending(parts, upload.parts_url, { onChange, onHold });
    state.sending.go();
    await state.sending.done;
    await ask(upload.finish_url, { method: "POST", form });
    form.reset();
  } catch (fault) {
    say(fault.message, fault.isAsked ? "success" : "error");
  } finally {
    Object.assign(state, { isBusy: false, sending: null, upload: null, resumed: null });
    showForm();
    refresh();
  }
}

function begin() {
  const fields = new FormData(form);
  fields.delete("files");
  return ask(form.action, { method: "POST", body: fields, form });
}

export async function cancel() {
  const { upload, sending } = state;
  if (!upload) return;
  await sending?.pause();
  let fault = Object.assign(new Error(CANCELLED), { isAsked: true });
  await ask(upload.discard_url, { method: "POST", form }).catch((reason) => (fault = reason));
  sending?.reject(fault);
}
