// The blocks of rows in a log. The browser lays out only those in view: see `log.css`.

// The same as in `servers/logs/log_pages.py`.
const BLOCK_ROWS = 20;

export function firstBlock(root) {
  return root.querySelector(".log-block");
}

// Return the last block, wherever it is; searched from the end, as there may be many.
export function lastBlock(root) {
  for (let part = root.lastElementChild; part; part = part.previousElementSibling) {
    if (part.matches(".log-block")) return part;
    if (part.lastElementChild?.matches(".log-block")) return part.lastElementChild;
  }
  return null;
}

// Append a row to the last chapter, if there is one: to its last block or, if that is full, to a new one.
export function appendRow(root, row) {
  const last = root.lastElementChild;
  const parent = last?.matches("[data-chapter]") ? last : root;
  let block = parent.lastElementChild;
  if (!block?.matches(".log-block") || block.childElementCount >= BLOCK_ROWS) {
    block = document.createElement("div");
    block.className = "log-block";
    parent.append(block);
  }
  block.append(row);
}

// Remove at most so many rows of `block` from an edge of the log; returns how many. A chapter that becomes empty is
// removed too.
export function cutBlock(block, most, isAtStart) {
  const count = Math.min(most, block.childElementCount);
  if (count < block.childElementCount) {
    for (let left = count; left > 0; left -= 1) {
      (isAtStart ? block.firstElementChild : block.lastElementChild).remove();
    }
    return count;
  }
  const chapter = block.parentElement.closest("[data-chapter]");
  block.remove();
  if (chapter && !firstBlock(chapter)) chapter.remove();
  return count;
}
