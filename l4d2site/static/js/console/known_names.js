// What can be typed into one server's console, as its own game has listed it: fetched once somebody types.

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
      // The panel is away, which `live.js` says; this is asked again when somebody comes back to the prompt.
    }
  }

  // The names, each with its help text and whether it is a command, that begin with a text, and then that have it.
  matching(text) {
    const typed = text.toLowerCase();
    const having = typed ? this.#names.filter(([name]) => name.toLowerCase().includes(typed)) : [];
    const begins = ([name]) => name.toLowerCase().startsWith(typed);
    const sorted = [...having.filter(begins), ...having.filter((one) => !begins(one))];
    // Nothing is left to complete in a name that is whole.
    return sorted.length === 1 && sorted[0][0].toLowerCase() === typed ? [] : sorted.slice(0, OFFERED);
  }
}
