// The log or console on a page, at the element with `data-log`: follows its end, or shows older lines.

import { followChanges } from "../live/live.js";
import { Chunks } from "./chunks.js";
import { Inflow } from "./inflow.js";
import { LogRows } from "./rows.js";
import { LogStatus } from "./status.js";
import { LogStream } from "./log_stream.js";
import { endDuration, showDurations } from "./durations.js";
import { readRange } from "./permalink.js";
import { Tail } from "./tail.js";

class Log {
  #log;
  #end = () => {};

  constructor(frame) {
    const log = (this.#log = frame.querySelector("[data-log]"));
    this.status = new LogStatus(frame);
    this.rows = new LogRows(log);
    this.chunks = new Chunks(log, this.rows, () => this.#onChunk());
    this.tail = new Tail(log, frame.querySelector("[data-log-jump]"), () => this.#onJump());
    const { rows, tail, chunks: { links } } = this;
    this.inflow = new Inflow({ log, rows, tail, links, onFull: () => this.#goOn() });
    showDurations(log);
    this.#goOn();
    if (!readRange() && !this.tail.isCut) this.tail.show();
  }

  // Follow the log from its last row on, or, if newer lines are left out, only the rest of the page.
  #goOn() {
    this.#end();
    this.inflow.clear();
    this.tail.isCut = this.chunks.links.hasLater;
    this.status.show(this.tail.isCut ? "older" : "connecting");
    this.#end = this.tail.isCut ? followChanges() : this.#followLog();
    this.tail.look();
  }

  #followLog() {
    return new LogStream(this.#log, Number(this.rows.last?.dataset.seq ?? 0), {
      onEntry: (entry) => (this.status.count(entry), this.inflow.push(entry)),
      onStatus: (word) => this.status.show(word),
      onEnd: () => (endDuration(this.#log), (this.#end = followChanges())),
    }).follow();
  }

  #onChunk() {
    if (this.chunks.links.hasLater !== this.tail.isCut) this.#goOn();
  }

  async #onJump() {
    if (this.tail.isCut && (await this.chunks.loadNewest())) this.#goOn();
  }
}

for (const frame of document.querySelectorAll("[data-log-frame]")) new Log(frame);
