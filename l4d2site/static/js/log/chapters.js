// The chapters of a log: the stages of a job, the runs of a server. They fold.

import { endDuration, makeDuration } from "./durations.js";

export function findChapter(root, key) {
  return root.querySelector(`[data-chapter="${CSS.escape(key)}"]`);
}

// Return an entry that would make the last chapter again, or undefined for none.
export function entryOfLast(root) {
  const last = root.lastElementChild;
  if (!last?.matches("[data-chapter]")) return undefined;
  return { chapter: last.dataset.chapter, began: last.querySelector("[data-began]")?.dataset.began };
}

// Begin a chapter, if it is not there; the one before is over then. `began` is when, if that is known.
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

// Take over what another page of this log has: before the first row, or behind the last one.
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
