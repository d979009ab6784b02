// This person's earlier commands to this server, by ↑ and ↓ in the prompt.

export class History {
  #input;
  #root;
  #sent = [];
  #position = -1;
  #draft = "";

  // `root` has the history as the server sent it with the page, newest first.
  constructor(input, root) {
    [this.#input, this.#root] = [input, root];
    input.addEventListener("keydown", (event) => this.#onKey(event));
    input.addEventListener("input", () => (this.#position = -1));
  }

  // The commands sent since then.
  add(text) {
    this.#sent.unshift(text);
  }

  #list() {
    const { promptHistory } = this.#root.querySelector("[data-prompt-history]").dataset;
    return [...new Set([...this.#sent, ...JSON.parse(promptHistory)])];
  }

  #onKey(event) {
    const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    const list = this.#list();
    const position = Math.max(-1, Math.min(this.#position + step, list.length - 1));
    event.preventDefault();
    if (position === this.#position) return;
    if (this.#position === -1) this.#draft = this.#input.value;
    this.#position = position;
    this.#input.value = position === -1 ? this.#draft : list[position];
    this.#input.setSelectionRange(this.#input.value.length, this.#input.value.length);
  }
}
