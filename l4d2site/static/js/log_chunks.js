// The links to earlier and later lines: they fetch the page they lead to, and its rows join those shown.

// Return the page at `address`, with its log.
export async function fetchPage(address) {
  const headers = { "X-Saferoom-Refresh": "log" };
  const response = await fetch(address, { headers, redirect: "error", cache: "no-store" });
  if (!response.ok) throw new Error(`${address} was answered with ${response.status}`);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

export class ChunkLinks {
  #log;
  #rows;
  #onChunk;

  constructor(log, rows, onChunk) {
    this.#log = log;
    this.#rows = rows;
    this.#onChunk = onChunk;
    log.addEventListener("click", (event) => {
      const link = event.target.closest("a.log-more");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.#load(link);
    });
  }

  get hasLater() {
    return this.#find("later") !== null;
  }

  // Show the link that leads on from the first row ("earlier") or from the last one ("later").
  offer(name) {
    const query = new URLSearchParams(this.#log.dataset.logWanted ? { q: this.#log.dataset.logWanted } : {});
    if (name === "earlier") query.set("before", this.#rows.first.dataset.seq);
    else query.set("after", this.#rows.last.dataset.seq);
    this.#put(name, `?${query}`);
  }

  // Show the rows of `page` instead, which are none so far.
  take(page) {
    this.#rows.adopt(page, false);
    for (const name of ["earlier", "later"]) this.#copy(name, page);
  }

  async #load(link) {
    if (link.ariaBusy === "true") return;
    link.ariaBusy = "true";
    const isBefore = "logEarlier" in link.dataset;
    try {
      const page = await fetchPage(link.href);
      this.#keepPlace(isBefore ? this.#rows.first : this.#rows.last, () => {
        this.#rows.adopt(page, isBefore);
        this.#copy(isBefore ? "earlier" : "later", page);
        if (this.#rows.cut(!isBefore)) this.offer(isBefore ? "later" : "earlier");
      });
      this.#onChunk();
    } catch {
      link.ariaBusy = "false";
      link.textContent = "These lines could not be loaded. Try again";
    }
  }

  // Change the rows while `row` stays where it is on the screen.
  #keepPlace(row, change) {
    const before = row.getBoundingClientRect().top;
    change();
    if (row.isConnected) this.#log.scrollTop += row.getBoundingClientRect().top - before;
  }

  #copy(name, page) {
    this.#put(name, page.querySelector(`[data-log-${name}]`)?.getAttribute("href"));
  }

  #put(name, href) {
    if (!href) {
      this.#find(name)?.remove();
      return;
    }
    const link = this.#find(name) ?? document.createElement("a");
    link.className = "log-more";
    link.setAttribute(`data-log-${name}`, "");
    link.href = href;
    link.ariaBusy = "false";
    link.textContent = `Load ${name} lines`;
    if (link.isConnected) return;
    if (name === "earlier") this.#log.prepend(link);
    else this.#log.append(link);
  }

  #find(name) {
    return this.#log.querySelector(`[data-log-${name}]`);
  }
}
