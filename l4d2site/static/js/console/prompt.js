// The prompt below a console: sends without leaving the page, shows answers as they come, and has a history.

import { onCommands } from "../live/command_news.js";
import { Completion } from "./completion.js";
import { History } from "./history.js";
import { LatestCommands } from "./latest_commands.js";
import { AWAY, explain } from "../forms/refusals.js";

class Prompt {
  #latest;
  #history;
  #note;

  constructor(root) {
    this.#latest = new LatestCommands(root);
    onCommands((html) => this.#latest.take(html));
    const form = root.querySelector("[data-prompt-form]");
    if (!form) return;
    this.#note = form.querySelector("[data-prompt-note]");
    const { command } = form.elements;
    // It comes first: while it offers something, it handles the arrow keys.
    new Completion(command, form.querySelector("[data-prompt-line]"), root.dataset.promptNames);
    this.#history = new History(command, root);
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
      const told = await response.text();
      const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
      const { command: id, text, question, error } = isJson ? JSON.parse(told) : { error: explain(response, told) };
      if (response.status === 201) return this.#onSent(id, text);
      command.value = line;
      // The page with the question is the same with and without scripts.
      if (question) HTMLFormElement.prototype.submit.call(form);
      else this.#note.textContent = error;
    } catch {
      command.value = line;
      this.#note.textContent = AWAY;
    }
  }

  // `text` is the command as everybody sees it: without passwords.
  #onSent(id, text) {
    this.#history.add(text);
    this.#latest.expect(id);
  }
}

for (const root of document.querySelectorAll("[data-prompt]")) new Prompt(root);
