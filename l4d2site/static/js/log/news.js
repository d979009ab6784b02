// Tells a screen reader how much a log has grown, now and then: line by line, a flood would drown it.

const PAUSE_MS = 10_000;

export class News {
  #region;
  #lines = 0;
  #errors = 0;
  #timer = 0;

  constructor(region) {
    this.#region = region;
  }

  // Take a line that came into account; it is told when the pause since the last news is over.
  count({ stream }) {
    this.#lines += 1;
    if (stream === "stderr") this.#errors += 1;
    this.#timer ||= setTimeout(() => this.#tell(), PAUSE_MS);
  }

  #tell() {
    this.#timer = 0;
    const errors = this.#errors ? `, ${this.#errors} of them on stderr` : "";
    this.#region.textContent = `${this.#lines} new line${this.#lines === 1 ? "" : "s"}${errors}`;
    this.#lines = this.#errors = 0;
  }
}
