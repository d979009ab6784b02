// The rows of a log: a bounded number of them, in blocks and chapters, each line once.

import { appendRow, cutBlock, firstBlock, lastBlock } from "./blocks.js";
import { addChapter, entryOfLast } from "./chapters.js";
import { makeRow, toPattern } from "./row.js";

export const MOST_ROWS = 3_000;

export class LogRows {
  #wanted;
  #home;

  // With `data-log-home` the rows are guests on a page: they link to that address.
  constructor(log) {
    this.#home = log.dataset.logHome;
    this.root = log.querySelector("[data-log-lines]");
    this.#wanted = toPattern(log.dataset.logWanted);
  }

  get count() {
    return this.root.getElementsByClassName("log-line").length;
  }

  get first() {
    return firstBlock(this.root)?.firstElementChild;
  }

  get last() {
    return lastBlock(this.root)?.lastElementChild;
  }

  // Add a stream's entries: lines, and chapters that begin with the line after them.
  add(entries) {
    this.root.querySelector(":scope > .log-empty")?.remove();
    for (const entry of entries) {
      if (entry.chapter === undefined) appendRow(this.root, makeRow(entry, this.#wanted, this.#home));
      else addChapter(this.root, entry);
    }
  }

  // Remove all rows, and skip those of `entries` too; the next ones follow them.
  skip(entries) {
    const chapter = entries.findLast((entry) => entry.chapter !== undefined) ?? entryOfLast(this.root);
    this.clear();
    if (chapter) addChapter(this.root, chapter);
  }

  clear() {
    this.root.replaceChildren();
  }

  // Remove surplus rows at one end, and chapters that become empty; returns whether there were any.
  cut(isAtStart) {
    const surplus = this.count - MOST_ROWS;
    for (let left = surplus; left > 0; ) {
      left -= cutBlock(isAtStart ? firstBlock(this.root) : lastBlock(this.root), left, isAtStart);
    }
    return surplus > 0;
  }
}
