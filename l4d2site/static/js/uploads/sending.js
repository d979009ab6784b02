// Sends the parts of an upload by tus, some at a time. It outlasts a lost connection and a restart of the panel.

import { describeFault, isFinal, startUpload } from "./part_upload.js";

const AT_ONCE = 3;
const sum = (parts, name) => parts.reduce((total, part) => total + part[name], 0);

export class Sending {
  // `onChange` is called at each progress, `onHold` with the reason when sending has stopped, and `go` can continue it.
  constructor(parts, address, { onChange, onHold }) {
    Object.assign(this, { parts, address, onChange, onHold, running: new Set(), isPaused: false });
    this.done = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  get total() {
    return sum(this.parts, "size");
  }

  get sent() {
    return sum(this.parts, "sent");
  }

  go() {
    this.isPaused = false;
    while (this.running.size < AT_ONCE) {
      const part = this.parts.find((one) => !one.isReceived && !this.running.has(one));
      if (!part) break;
      this.running.add(part);
      startUpload(part, this.address, {
        onProgress: (sent) => ((part.sent = sent), this.onChange()),
        onSuccess: () => this.end(part),
        onError: (error) => this.fail(part, error),
      });
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

  end(part) {
    Object.assign(part, { isReceived: true, sent: part.size });
    if (this.running.delete(part) && !this.isPaused) this.go();
  }

  async fail(part, error) {
    if (this.isPaused) return;
    await this.pause();
    if (isFinal(error)) this.reject(new Error(describeFault(part, error)));
    else this.onHold(describeFault(part, error));
  }
}
