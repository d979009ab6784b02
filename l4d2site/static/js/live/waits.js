// How long to wait before the next attempt: twice as long each time, until one succeeds.

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

export class Waits {
  #wait = FIRST_WAIT_MS;

  succeeded() {
    this.#wait = FIRST_WAIT_MS;
  }

  next() {
    const wait = this.#wait;
    this.#wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    return wait;
  }

  // For an answer that asks to wait. Not all clients should come back at the same moment.
  atLeast(ms) {
    return Math.max(this.#wait, ms) * (1 + Math.random() / 2);
  }
}
