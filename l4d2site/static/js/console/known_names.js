// The names that one server's console knows, as listed by its own game: fetched at the first typing.

const OFFERED = 10;

export class KnownNames {
  #url;
  #names = [];

  constructor(url) {
    this.#url = url;
  }

  async load() {
    if (this.#names.length) return;
    try {
      const response = await fetch(this.#url, { headers: { Accept: "application/json" }, redirect: "error" });
      if (response.ok) this.#names = (await response.json()).names;
    } catch {
      // The panel does not answer, which `live.js` reports; this is retried at the next return to the prompt.
    }
  }

  // The names that begin with a text, then those that contain it, each with its help text and whether it is a command.
  matching(text) {
    const typed = text.toLowerCase();
    const having = typed ? this.#names.filter(([name]) => name.toLowerCase().includes(typed)) : [];
    const begins = ([name]) => name.toLowerCase().startsWith(typed);
    const sorted = [...having.filter(begins), ...having.filter((one) => !begins(one))];
    // A complete name needs no completion.
    return sorted.length === 1 && sorted[0][0].toLowerCase() === typed ? [] : sorted.slice(0, OFFERED);
  }
}
