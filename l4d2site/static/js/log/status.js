// Shows below a log whether it is live, and tells a screen reader now and then how much it has grown.

import { News } from "./news.js";
import { gettext } from "../words.js";

const WORDS = {
  connecting: gettext("Connecting…"),
  live: gettext("Live"),
  reconnecting: gettext("Reconnecting…"),
  waiting: gettext("Waiting to go live…"),
  refused: gettext("No longer live"),
  ended: gettext("Ended"),
  older: gettext("Showing older lines"),
};

export class LogStatus {
  #region;
  #news;

  constructor(frame) {
    this.#region = frame.querySelector("[data-log-status]");
    this.#news = new News(frame.querySelector("[data-log-news]"));
  }

  show(word) {
    if (this.#region.dataset.state === word) return;
    this.#region.textContent = WORDS[word];
    this.#region.dataset.state = word;
  }

  count(entry) {
    if (entry.chapter === undefined) this.#news.count(entry);
  }
}
