// The prompt below a console: sends without leaving the page, shows answers as they come, and knows one's history.

import { onCommands } from "../live/command_news.js";
import { swapRegions } from "../live/swap.js";
import { History } from "./history.js";

// Where the stream does not tell: while older lines of the log are shown, no stream of it is open.
const ASK_AGAIN_MS = 1_000;

class Prompt {
  #root;
  #timer = 0;
  #asked = 0;
  #isStale = false;

  constructor(root) {
    this.#root = root;
    onCommands(() => this.#showLatest());
    const form = root.querySelector("[data-prompt-form]");
    if (!form) return;
    this.note = form.querySelector("[data-prompt-note]");
    new History(form.elements.command, root);
    form.addEventListener("submit", (event) => this.#send(event, form));
    this.#askAgain();
  }

  async #send(event, form) {
    event.preventDefault();
    const { command } = form.elements;
    const line = command.value;
    const request = { method: "POST", body: new FormData(form), headers: { Accept: "application/json" } };
    command.value = "";
    this.note.textContent = "";
    try {
      const response = await fetch(form.action, request);
      if (response.status === 201) return void this.#showLatest();
      const { question, error } = await response.json();
      command.value = line;
      // The page that asks is the same with and without scripts.
      if (question) HTMLFormElement.prototype.submit.call(form);
      else this.note.textContent = error;
    } catch {
      command.value = line;
      this.note.textContent = "The panel did not answer: whether this was sent is not known. Look at the list below.";
    }
  }

  async #showLatest() {
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
    this.#timer = setTimeout(() => this.#showLatest(), ASK_AGAIN_MS);
  }
}

for (const root of document.querySelectorAll("[data-prompt]")) new Prompt(root);
