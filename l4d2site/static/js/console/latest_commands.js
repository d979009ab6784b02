// The commands that were sent last, below a prompt: fetches them anew, until each has its answer.

import { swapRegions } from "../live/swap.js";

// Where the stream does not tell: while older lines of the log are shown, no stream of it is open.
const ASK_AGAIN_MS = 1_000;

export class LatestCommands {
  #root;
  #timer = 0;
  #isStale = false;
  #isAsking = false;

  constructor(root) {
    this.#root = root;
    this.#askAgain();
  }

  async show() {
    this.#isStale = true;
    if (this.#isAsking) return;
    this.#isAsking = true;
    let text = "-";
    // What changes while one is under way is fetched behind it: several at once would come one after the other too.
    while (this.#isStale && text) {
      this.#isStale = false;
      text = await this.#fetch();
      if (text) swapRegions(new DOMParser().parseFromString(text, "text/html"));
    }
    this.#isStale ||= !text;
    this.#isAsking = false;
    this.#askAgain();
  }

  async #fetch() {
    try {
      const response = await fetch(this.#root.dataset.promptLatest, { cache: "no-store", redirect: "error" });
      return response.ok ? await response.text() : "";
    } catch {
      return ""; // The panel is away, which `live.js` says.
    }
  }

  #askAgain() {
    clearTimeout(this.#timer);
    if (!this.#isStale && !this.#root.querySelector("[data-pending]")) return;
    this.#timer = setTimeout(() => this.show(), ASK_AGAIN_MS);
  }
}
