// Fetches lines of a log that are not shown: those of the links to earlier and later lines, or the newest.

import { fetchPage } from "./fetch_page.js";
import { keepPlace } from "./keep_place.js";
import { adoptRows } from "./chapters.js";
import { LogLinks } from "./links.js";
import { selectLines } from "./permalink.js";
import { gettext } from "../words.js";

export class Chunks {
  #log;
  #rows;
  #onChunk;

  constructor(log, rows, onChunk) {
    [this.#log, this.#rows, this.#onChunk] = [log, rows, onChunk];
    this.links = new LogLinks(log, rows);
    log.addEventListener("click", (event) => {
      const link = event.target.closest("a.log-more");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      if (link.ariaBusy !== "true") this.#load(link, "logEarlier" in link.dataset);
    });
  }

  // Show the newest lines instead of the current ones; returns whether that succeeded.
  async loadNewest() {
    const page = await fetchPage(location.pathname).catch(() => null);
    // The browser explains better than a log what is wrong.
    if (!page) return location.assign(location.pathname);
    this.#rows.clear();
    adoptRows(this.#rows.root, page, false);
    for (const name of ["earlier", "later"]) this.links.copy(name, page);
    history.replaceState(null, "", location.pathname);
    selectLines(this.#log);
    return true;
  }

  async #load(link, isBefore) {
    link.ariaBusy = "true";
    try {
      const page = await fetchPage(link.href);
      keepPlace(this.#log, isBefore ? this.#rows.first : this.#rows.last, () => this.#add(page, isBefore));
    } catch {
      link.ariaBusy = "false";
      link.textContent = gettext("These lines could not be loaded. Try again");
      return;
    }
    selectLines(this.#log);
    this.#onChunk();
  }

  #add(page, isBefore) {
    adoptRows(this.#rows.root, page, isBefore);
    this.links.copy(isBefore ? "earlier" : "later", page);
    if (this.#rows.cut(!isBefore)) this.links.offer(isBefore ? "later" : "earlier");
  }
}
