// The prompt below a console: sends without leaving the page, shows answers as they come, and knows one's history.

import { onCommands } from "../live/command_news.js";
import { Completion } from "./completion.js";
import { History } from "./history.js";
import { LatestCommands } from "./latest_commands.js";
import { gettext } from "../words.js";

class Prompt {
  #latest;
  #note;

  constructor(root) {
    this.#latest = new LatestCommands(root);
    onCommands(() => this.#latest.show());
    const form = root.querySelector("[data-prompt-form]");
    if (!form) return;
    this.#note = form.querySelector("[data-prompt-note]");
    const { command } = form.elements;
    // It comes first: while it offers something, the arrows are its own.
    new Completion(command, form.querySelector("[data-prompt-line]"), root.dataset.promptNames);
    new History(command, root);
    form.addEventListener("submit", (event) => this.#send(event, form));
  }

  async #send(event, form) {
    event.preventDefault();
    const { command } = form.elements;
    const line = command.value;
    const request = { method: "POST", body: new FormData(form), headers: { Accept: "application/json" } };
    command.value = "";
    this.#note.textContent = "";
    try {
      const response = await fetch(form.action, request);
      if (response.status === 201) return void this.#latest.show();
      const { question, error } = await response.json();
      command.value = line;
      // The page that asks is the same with and without scripts.
      if (question) HTMLFormElement.prototype.submit.call(form);
      else this.#note.textContent = error;
    } catch {
      command.value = line;
      this.#note.textContent = gettext(
        "The panel did not answer, so nobody knows whether this was sent. Look at the list below.",
      );
    }
  }
}

for (const root of document.querySelectorAll("[data-prompt]")) new Prompt(root);
