// The rows of a log: a bounded number of them, in their chapters, each line once.

import { makeRow, toPattern } from "./row.js";

export const MOST_ROWS = 3_000;

export class LogRows {
  #root;
  #wanted;
  #rows;

  constructor(log) {
    this.#root = log.querySelector("[data-log-lines]");
    this.#rows = this.#root.getElementsByClassName("log-line"); // stays true by itself
    this.#wanted = toPattern(log.dataset.logWanted);
  }

  get count() {
    return this.#rows.length;
  }

  get first() {
    return this.#rows[0];
  }

  get last() {
    return this.#rows[this.#rows.length - 1];
  }

  // Add what a stream brought: lines, and chapters that begin with the line behind them.
  add(entries) {
    this.#root.querySelector(".log-empty")?.remove();
    let batch = [];
    for (const entry of entries) {
      if (entry.chapter === undefined) batch.push(makeRow(entry, this.#wanted));
      else {
        this.#end().append(...batch);
        batch = [];
        if (!this.#find(entry.chapter)) this.#root.append(makeChapter(entry.chapter));
      }
    }
    this.#end().append(...batch);
  }

  // The same, and remove the oldest rows that are too many then; returns whether there were any.
  addNewest(entries) {
    const surplus = entries.length - MOST_ROWS;
    if (surplus > 0) {
      // Rows that would be gone again are not made at all.
      const chapter = entries.slice(0, surplus).findLast((entry) => entry.chapter !== undefined);
      const current = chapter ?? { chapter: this.#end().dataset.chapter };
      this.clear();
      entries = entries.slice(surplus);
      if (current.chapter !== undefined) entries.unshift(current);
    }
    this.add(entries);
    return this.cut(true) || surplus > 0;
  }

  // Take over the rows of another page of this log: those before the first row, or behind the last one.
  adopt(page, isBefore) {
    const groups = [...page.querySelectorAll("[data-log-lines] > :is(.log-line, [data-chapter])")];
    for (const group of isBefore ? groups.reverse() : groups) {
      const mine = group.dataset.chapter && this.#find(group.dataset.chapter);
      const rows = [...group.children].filter((child) => child.matches(".log-line"));
      if (mine && isBefore) mine.querySelector("summary").after(...rows);
      else if (mine) mine.append(...rows);
      else if (isBefore) this.#root.prepend(group);
      else this.#root.append(group);
    }
  }

  clear() {
    this.#root.replaceChildren();
  }

  // Remove the rows at one end that are too many, and chapters that have none any more; returns whether any were.
  cut(isAtStart) {
    const surplus = this.count - MOST_ROWS;
    for (let left = surplus; left > 0; left -= 1) {
      const row = isAtStart ? this.first : this.last;
      const chapter = row.parentElement.closest("[data-chapter]");
      row.remove();
      if (chapter && !chapter.querySelector(".log-line")) chapter.remove();
    }
    return surplus > 0;
  }

  #end() {
    const last = this.#root.lastElementChild;
    return last?.matches("[data-chapter]") ? last : this.#root;
  }

  #find(chapter) {
    return this.#root.querySelector(`[data-chapter="${CSS.escape(chapter)}"]`);
  }
}

function makeChapter(key) {
  const chapter = document.createElement("details");
  chapter.className = "log-chapter";
  chapter.dataset.chapter = key;
  chapter.open = true;
  const name = document.createElement("summary");
  name.textContent = key.slice(key.indexOf(" ") + 1);
  chapter.append(name);
  return chapter;
}
