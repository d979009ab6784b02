// The stream of a log, and of all else that its page follows: hands over what came, a batch for each frame.

import { onChange, onConnection } from "./live.js";
import { refresh } from "./refresh.js";
import { follow } from "./stream.js";

export class LogStream {
  #address;
  #lastSeq;
  #to;
  #waiting = [];
  #at = "";
  #isOver = false;

  // Begins behind line `lastSeq`. `to` has `onEntries`, `onStatus` and `onEnd`.
  constructor(address, lastSeq, to) {
    this.#address = address;
    this.#lastSeq = lastSeq;
    this.#to = to;
  }

  // Returns a function that ends it: nothing is handed over after that.
  follow() {
    const stop = follow(
      () => `${this.#address}&after=${this.#lastSeq}`,
      {
        stdout: this.#onLine("stdout"),
        stderr: this.#onLine("stderr"),
        message: this.#onLine(""),
        clock: (event) => (this.#at = event.data),
        chapter: (event) => this.#push({ chapter: event.data }),
        state: refresh,
        change: onChange,
        end: () => {
          stop();
          this.#hand();
          this.#to.onStatus("ended");
          this.#to.onEnd();
          refresh();
        },
      },
      (status) => {
        onConnection(status);
        this.#to.onStatus(status);
      },
    );
    return () => {
      this.#isOver = true;
      stop();
    };
  }

  // A line that was there before is left out: after a reconnect some may come again.
  #onLine(stream) {
    return (event) => {
      const seq = Number(event.lastEventId);
      if (seq <= this.#lastSeq) return;
      this.#lastSeq = seq;
      this.#push({ seq, stream, text: event.data, at: this.#at });
    };
  }

  #push(entry) {
    if (this.#waiting.length === 0) requestAnimationFrame(() => this.#hand());
    this.#waiting.push(entry);
  }

  #hand() {
    const entries = this.#waiting;
    this.#waiting = [];
    if (entries.length && !this.#isOver) this.#to.onEntries(entries);
  }
}
