// Tells a screen reader now and then how much a log has grown: line by line, a flood would drown it.

import { fill, ngettext } from "../words.js";

const PAUSE_MS = 10_000;

export class News {
  #region;
  #lines = 0;
  #errors = 0;
  #timer = 0;

  constructor(region) {
    this.#region = region;
  }

  // Count a new line; it is announced when the pause since the last announcement is over.
  count({ stream }) {
    this.#lines += 1;
    if (stream === "stderr") this.#errors += 1;
    this.#timer ||= setTimeout(() => this.#tell(), PAUSE_MS);
  }

  #tell() {
    this.#timer = 0;
    const [lines, errors] = [this.#lines, this.#errors];
    const text = errors
      ? ngettext("%(lines)s new line, %(errors)s on stderr", "%(lines)s new lines, %(errors)s on stderr", lines)
      : ngettext("%(lines)s new line", "%(lines)s new lines", lines);
    this.#region.textContent = fill(text, { lines, errors });
    this.#lines = this.#errors = 0;
  }
}
