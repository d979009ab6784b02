// The latest commands, below a prompt: shows them when a stream brings them, and fetches them if there is no stream.

import { fetchCommands } from "./fetch_commands.js";
import { showCommands } from "./show_commands.js";

// While older lines of the log are shown, its stream is not open.
const ASK_AGAIN_MS = 1_000;
// After a command was sent. If a stream is open, it has usually brought the answer by then.
const ASK_FIRST_MS = 250;

export class LatestCommands {
  #root;
  #timer = 0;
  #isStale = false;
  #isAsking = false;

  constructor(root) {
    this.#root = root;
    this.#askAgain();
  }

  // Show the list that a stream brought; one too long for the stream is fetched.
  take(html) {
    if (html === undefined) return void this.#ask();
    this.#isStale = false;
    showCommands(this.#root, html);
    this.#askAgain();
  }

  // The command with this id was sent; the stream may have been faster than the response that says so.
  expect(id) {
    if (this.#root.querySelector(`[data-command="${id}"]`)) return;
    this.#isStale = true;
    this.#askAgain(ASK_FIRST_MS);
  }

  async #ask() {
    this.#isStale = true;
    if (this.#isAsking) return;
    this.#isAsking = true;
    let text = "-";
    // Changes during a request are fetched after it: several at once would also be answered one after the other.
    while (this.#isStale && text) {
      this.#isStale = false;
      if ((text = await fetchCommands(this.#root.dataset.promptLatest))) showCommands(this.#root, text);
    }
    this.#isStale ||= !text;
    this.#isAsking = false;
    this.#askAgain();
  }

  #askAgain(ms = ASK_AGAIN_MS) {
    clearTimeout(this.#timer);
    if (!this.#isStale && !this.#root.querySelector("[data-pending]")) return;
    this.#timer = setTimeout(() => this.#ask(), ms);
  }
}
