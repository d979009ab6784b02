// Offers names below the prompt during typing, chosen with the arrows, Enter, Tab and Escape, or by a click.

import { KnownNames } from "./known_names.js";
import { NameList } from "./name_list.js";

export class Completion {
  #input;
  #list;
  #known;
  #offered = [];

  constructor(input, line, url) {
    this.#input = input;
    this.#known = new KnownNames(url);
    this.#list = new NameList(input, line, (index) => this.#take(index));
    input.addEventListener("focus", () => this.#known.load());
    input.addEventListener("input", () => this.#offer(this.#known.matching(this.#typed())));
    input.addEventListener("blur", () => this.#offer([]));
    input.addEventListener("keydown", (event) => this.#onKey(event));
    if (document.activeElement === input) this.#known.load();
  }

  // The name being typed: the first word of a command, up to the caret.
  #typed() {
    const before = this.#input.value.slice(0, this.#input.selectionStart);
    return /(?:^|;)\s*([^\s;"]+)$/.exec(before)?.[1] ?? "";
  }

  #offer(names) {
    this.#offered = names;
    this.#list.show(names);
  }

  #take(index) {
    const caret = this.#input.selectionStart;
    this.#input.setRangeText(`${this.#offered[index][0]} `, caret - this.#typed().length, caret, "end");
    this.#offer([]);
  }

  #onKey(event) {
    if (!this.#offered.length || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    const { chosen } = this.#list;
    const last = this.#offered.length - 1;
    if (event.key === "ArrowDown") this.#list.choose(Math.min(chosen + 1, last));
    else if (event.key === "ArrowUp" && chosen >= 0) this.#list.choose(chosen - 1);
    else if (event.key === "Tab" && !event.shiftKey) this.#take(Math.max(chosen, 0));
    else if (event.key === "Enter" && chosen >= 0) this.#take(chosen);
    else if (event.key === "Escape") this.#offer([]);
    else if (event.key === "ArrowUp" || event.key === "Enter") return this.#offer([]); // ArrowUp goes to the history; Enter sends.
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}
