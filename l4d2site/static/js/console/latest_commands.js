// The commands that were sent last, below a prompt: fetches them anew, until each has its answer.

import { swapRegions } from "../live/swap.js";

// Where the stream does not tell: while older lines of the log are shown, no stream of it is open.
const ASK_AGAIN_MS = 1_000;

export class LatestCommands {
  #root;
  #timer = 0;
  #asked = 0;
  #isStale = false;

  constructor(root) {
    this.#root = root;
    this.#askAgain();
  }

  async show() {
    const number = ++this.#asked;
    this.#isStale = true;
    try {
      const response = await fetch(this.#root.dataset.promptLatest, { cache: "no-store", redirect: "error" });
      const text = response.ok ? await response.text() : "";
      // Two may be under way, and the older one come last.
      if (text && number === this.#asked) {
        swapRegions(new DOMParser().parseFromString(text, "text/html"));
        this.#isStale = false;
      }
    } catch {
      // The panel is away, which `live.js` says.
    }
    this.#askAgain();
  }

  #askAgain() {
    clearTimeout(this.#timer);
    if (!this.#isStale && !this.#root.querySelector("[data-pending]")) return;
    this.#timer = setTimeout(() => this.show(), ASK_AGAIN_MS);
  }
}
