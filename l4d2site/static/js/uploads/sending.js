// Sends the parts of an upload by tus, some at a time. It outlasts a lost connection and a restart of the panel.

import { fill, gettext } from "../words.js";

const AT_ONCE = 3;
const ONE_REQUEST_BYTES = 1024 ** 2;
// For two minutes: a panel that restarts is back within seconds, and is not kept waiting.
const RETRY_MS = [0, 500, 1_000, 2_000, ...Array(40).fill(3_000)];
// To these the same request would get the same answer, until somebody signs in again or makes room.
const CURABLE = [401, 507];
const FINAL = [400, 403, 404, 405, 410, 412, 413, 415, 422];

export class Sending {
  // `known` are the parts that the server has, by path, size and time. `onChange` is called at each progress, `onHold`
  // with the reason when sending has stopped, and `go` can continue it.
  constructor(parts, known, address, { onChange, onHold }) {
    this.parts = parts.map((part) => ({ ...part, ...find(known, part), sent: 0 }));
    this.address = address;
    this.onChange = onChange;
    this.onHold = onHold;
    this.running = new Set();
    this.isPaused = false;
    for (const part of this.parts) if (part.isReceived) part.sent = part.size;
    this.done = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  get total() {
    return this.parts.reduce((total, part) => total + part.size, 0);
  }

  get sent() {
    return this.parts.reduce((total, part) => total + part.sent, 0);
  }

  go() {
    this.isPaused = false;
    while (this.running.size < AT_ONCE) {
      const part = this.parts.find((one) => !one.isReceived && !this.running.has(one));
      if (!part) break;
      this.running.add(part);
      this.send(part);
    }
    if (!this.running.size) this.resolve();
    this.onChange();
  }

  // What has been sent stays there; `go` continues with what is missing.
  async pause() {
    this.isPaused = true;
    const running = [...this.running];
    this.running.clear();
    await Promise.all(running.map((part) => part.upload.abort()));
    for (const part of running) part.url = part.upload.url ?? part.url;
    this.onChange();
  }

  send(part) {
    part.upload = new window.tus.Upload(part.content, {
      endpoint: this.address,
      uploadUrl: part.url ?? null,
      metadata: {
        path: part.path,
        modified: String(part.modified),
        ...(part.isBundle ? { bundle: "1" } : {}),
      },
      retryDelays: RETRY_MS,
      storeFingerprintForResuming: false,
      uploadDataDuringCreation: part.size > 0 && part.size <= ONE_REQUEST_BYTES,
      onShouldRetry: (error) => ![...CURABLE, ...FINAL].includes(error.originalResponse?.getStatus()),
      onProgress: (sent) => this.note(part, sent),
      onSuccess: () => this.end(part),
      onError: (error) => this.fail(part, error),
    });
    part.upload.start();
  }

  note(part, sent) {
    part.sent = sent;
    this.onChange();
  }

  end(part) {
    part.isReceived = true;
    part.sent = part.size;
    this.running.delete(part);
    if (!this.isPaused) this.go();
  }

  async fail(part, error) {
    if (this.isPaused) return;
    await this.pause();
    const lost = gettext("The panel did not answer while %(path)s was sent. What has arrived is kept.");
    const said = readAnswer(error.originalResponse) || fill(lost, { path: part.label ?? part.path });
    if (FINAL.includes(error.originalResponse?.getStatus())) this.reject(new Error(said));
    else this.onHold(said);
  }
}

// What the panel says is plain text; a page is that of something before it.
function readAnswer(response) {
  return response?.getHeader("Content-Type")?.startsWith("text/plain") ? response.getBody().trim() : "";
}

function find(known, part) {
  const same = known.find(
    (one) => one.path === part.path && one.size === part.size && one.modified === part.modified
  );
  return same ? { url: same.url, isReceived: same.is_received } : {};
}
