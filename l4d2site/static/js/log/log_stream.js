// The stream of a log, and of everything else that its page follows: passes on its lines one by one.

import { tellCommands } from "../live/command_news.js";
import { onChange, onConnection } from "../live/live.js";
import { refresh } from "../live/refresh.js";
import { follow } from "../live/stream.js";
import { WorkerSource } from "../live/worker_source.js";

export class LogStream {
  #log;
  #lastSeq;
  #to;
  #at = "";
  #began;
  #stop = () => {};

  // The stream of the element `log`, after line `lastSeq`. `to` has `onEntry`, `onStatus` and `onEnd`.
  constructor(log, lastSeq, to) {
    [this.#log, this.#lastSeq, this.#to] = [log.dataset, lastSeq, to];
  }

  // Returns a function that ends it: nothing is passed on after that.
  follow() {
    const events = {
      stdout: (event) => this.#onLine("stdout", event),
      stderr: (event) => this.#onLine("stderr", event),
      message: (event) => this.#onLine("", event),
      clock: (event) => (this.#at = event.data),
      began: (event) => (this.#began = event.data),
      chapter: (event) => this.#to.onEntry({ chapter: event.data, began: this.#began }),
      state: refresh,
      change: onChange,
      commands: tellCommands,
      end: () => this.#onEnd(),
    };
    const address = () => `${this.#log.log}&after=${this.#lastSeq}`;
    const connect = (address) => new WorkerSource(this.#log.logWorker, address);
    return (this.#stop = follow(address, events, (...status) => this.#onStatus(...status), connect));
  }

  // A line that was already there is left out: after a reconnect some may come again.
  #onLine(stream, event) {
    const seq = Number(event.lastEventId);
    if (seq <= this.#lastSeq) return;
    this.#lastSeq = seq;
    this.#to.onEntry({ seq, stream, text: event.data, at: this.#at });
  }

  #onStatus(status, reason) {
    onConnection(status, reason);
    this.#to.onStatus(status);
  }

  #onEnd() {
    this.#stop();
    this.#to.onStatus("ended");
    this.#to.onEnd();
    refresh();
  }
}
