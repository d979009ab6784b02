// The log or console on a page, at the element with `data-log`: follows its end, or shows older lines.

import { ChunkLinks, fetchPage } from "./log_chunks.js";
import { LogRows, MOST_ROWS } from "./log_rows.js";
import { LogStream } from "./log_stream.js";
import { followChanges } from "./live.js";
import { News } from "./news.js";
import { readRange, selectLines } from "./permalink.js";
import { Tail } from "./tail.js";

const WORDS = {
  connecting: "Connecting…",
  live: "Live",
  reconnecting: "Reconnecting…",
  ended: "Ended",
  older: "Showing older lines",
};

class Log {
  #log;
  #status;
  #end = () => {};

  constructor(frame) {
    this.#log = frame.querySelector("[data-log]");
    this.#status = frame.querySelector("[data-log-status]");
    this.rows = new LogRows(this.#log);
    this.news = new News(frame.querySelector("[data-log-news]"));
    this.tail = new Tail(this.#log, frame.querySelector("[data-log-jump]"), () => this.#showNewest());
    this.links = new ChunkLinks(this.#log, this.rows, () => this.#afterChunk());
    this.#goOn();
    if (!readRange() && !this.tail.isCut) this.tail.show();
  }

  // Follow the log from its last row on, or, where newer lines are left out, only the rest of the page.
  #goOn() {
    this.#end();
    this.tail.isCut = this.links.hasLater;
    this.#show(this.tail.isCut ? "older" : "connecting");
    this.#end = this.tail.isCut ? followChanges() : this.#followLog();
    this.tail.look();
  }

  #followLog() {
    return new LogStream(this.#log.dataset.log, Number(this.rows.last?.dataset.seq ?? 0), {
      onEntries: (entries) => this.#add(entries),
      onStatus: (status) => this.#show(status),
      onEnd: () => (this.#end = followChanges()),
    }).follow();
  }

  #add(entries) {
    this.news.count(entries);
    if (this.tail.isFollowed) {
      if (this.rows.addNewest(entries)) this.links.offer("earlier");
      this.tail.show();
    } else {
      // Rows that somebody reads stay. What has no room beside them waits until it is asked for.
      const room = MOST_ROWS - this.rows.count;
      this.rows.add(entries.slice(0, room));
      if (entries.length > room) {
        this.links.offer("later");
        this.#goOn();
      }
    }
    selectLines(this.#log);
  }

  #afterChunk() {
    selectLines(this.#log);
    if (this.links.hasLater !== this.tail.isCut) this.#goOn();
  }

  async #showNewest() {
    if (!this.tail.isCut) return;
    const page = await fetchPage(location.pathname).catch(() => null);
    // The browser says better than a log what is wrong.
    if (!page) return location.assign(location.pathname);
    this.rows.clear();
    this.links.take(page);
    history.replaceState(null, "", location.pathname);
    selectLines(this.#log);
    this.#goOn();
  }

  #show(word) {
    this.#status.textContent = WORDS[word];
    this.#status.dataset.state = word;
  }
}

for (const frame of document.querySelectorAll("[data-log-frame]")) new Log(frame);
