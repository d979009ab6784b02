// The chapters of a log: the stages of a job, the runs of a server. They fold.

import { endDuration, makeDuration } from "./durations.js";

export function findChapter(root, key) {
  return root.querySelector(`[data-chapter="${CSS.escape(key)}"]`);
}

// Return an entry that would create the last chapter again; undefined if there is none.
export function entryOfLast(root) {
  const last = root.lastElementChild;
  if (!last?.matches("[data-chapter]")) return undefined;
  return { chapter: last.dataset.chapter, began: last.querySelector("[data-began]")?.dataset.began };
}

// Begin a chapter, if it does not exist; the previous one ends. `began` is when it began, if known.
export function addChapter(root, { chapter: key, began }) {
  if (findChapter(root, key)) return;
  if (began) endDuration(root, began);
  const chapter = document.createElement("details");
  chapter.className = "log-chapter";
  chapter.dataset.chapter = key;
  chapter.open = true;
  const summary = document.createElement("summary");
  summary.textContent = key.slice(key.indexOf(" ") + 1);
  if (began) summary.append(" ", makeDuration(began));
  chapter.append(summary);
  root.append(chapter);
}

// Take over the rows of another page of this log: before the first row, or after the last one.
export function adoptRows(root, page, isBefore) {
  const parts = [...page.querySelectorAll("[data-log-lines] > :is(.log-block, [data-chapter])")];
  for (const part of isBefore ? parts.reverse() : parts) {
    const mine = part.dataset.chapter && findChapter(root, part.dataset.chapter);
    const blocks = [...part.children].filter((child) => child.matches(".log-block"));
    if (mine && isBefore) mine.querySelector("summary").after(...blocks);
    else if (mine) mine.append(...blocks);
    else if (isBefore) root.prepend(part);
    else root.append(part);
  }
}
