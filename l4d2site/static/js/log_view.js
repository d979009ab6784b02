// Shows lines as they come: a batch for each frame, each line once, and a bounded number of rows.

const MOST_ROWS = 5_000;

export class LogView {
  #log;
  #onShown;
  #waiting = [];
  #rowCount;

  // `onShown` is called after each batch.
  constructor(log, onShown) {
    this.#log = log;
    this.#onShown = onShown;
    this.#rowCount = log.querySelectorAll(".log-line").length;
    this.lastSeq = Number(log.lastElementChild?.dataset.seq ?? 0);
  }

  // Add a line, unless it was added before: after a reconnect some may come again.
  add(seq, stream, text) {
    if (seq <= this.lastSeq) return;
    this.lastSeq = seq;
    if (this.#waiting.length === 0) requestAnimationFrame(() => this.#show());
    this.#waiting.push({ seq, stream, text });
  }

  #show() {
    const lines = this.#waiting.slice(-MOST_ROWS);
    this.#waiting = [];
    this.#log.querySelector(".log-empty")?.remove();
    this.#log.append(...lines.map(makeRow));
    this.#rowCount += lines.length;
    this.#cut();
    this.#onShown();
  }

  #cut() {
    if (this.#rowCount <= MOST_ROWS) return;
    this.#log.querySelector(".log-cut")?.remove();
    for (; this.#rowCount > MOST_ROWS; this.#rowCount -= 1) this.#log.firstElementChild.remove();
    const note = document.createElement("p");
    note.className = "log-cut";
    note.textContent = "Earlier lines are not shown here any more.";
    this.#log.prepend(note);
  }
}

function makeRow({ seq, stream, text }) {
  const row = document.createElement("div");
  row.className = "log-line";
  row.dataset.seq = seq;
  if (stream) row.dataset.stream = stream;
  row.textContent = text;
  return row;
}
