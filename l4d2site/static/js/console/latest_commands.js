// The commands that were sent last, below a prompt: shows what a stream brings, and fetches them where none does.

import { swapRegions } from "../live/swap.js";
import { fetchCommands } from "./fetch_commands.js";

// While older lines of the log are shown, no stream of it is open.
const ASK_AGAIN_MS = 1_000;
// After a command was sent. Where a stream is open, it mostly has told by then, with the answer.
const ASK_FIRST_MS = 250;

const put = (html) => swapRegions(new DOMParser().parseFromString(html, "text/html"));

export class LatestCommands {
  #root;
  #timer = 0;
  #isStale = false;
  #isAsking = false;

  constructor(root) {
    this.#root = root;
    this.#askAgain();
  }

  // Show the list that a stream has brought; a longer one is fetched.
  take(html) {
    if (html === undefined) return void this.#ask();
    this.#isStale = false;
    put(html);
    this.#askAgain();
  }

  // The command with this id was sent; the stream may have been faster than the answer that says so.
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
    // What changes while one is under way is fetched behind it: several at once would come one after the other too.
    while (this.#isStale && text) {
      this.#isStale = false;
      if ((text = await fetchCommands(this.#root.dataset.promptLatest))) put(text);
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
