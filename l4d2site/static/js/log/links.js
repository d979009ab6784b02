// The links above and below the rows of a log, to earlier and later lines.

import { gettext } from "../words.js";

export class LogLinks {
  #log;
  #rows;

  constructor(log, rows) {
    this.#log = log;
    this.#rows = rows;
  }

  get hasLater() {
    return this.#find("later") !== null;
  }

  // Show the link to the lines before the first row ("earlier") or after the last one ("later").
  offer(name) {
    const query = new URLSearchParams(this.#log.dataset.logWanted ? { q: this.#log.dataset.logWanted } : {});
    if (name === "earlier") query.set("before", this.#rows.first.dataset.seq);
    else query.set("after", this.#rows.last.dataset.seq);
    this.#put(name, `?${query}`);
  }

  // Show the link of `page`, or none.
  copy(name, page) {
    this.#put(name, page.querySelector(`[data-log-${name}]`)?.getAttribute("href"));
  }

  #put(name, href) {
    if (!href) {
      this.#find(name)?.remove();
      return;
    }
    const link = this.#find(name) ?? this.#insert(name);
    link.href = href;
    link.ariaBusy = "false";
    link.textContent = name === "earlier" ? gettext("Load earlier lines") : gettext("Load later lines");
  }

  #insert(name) {
    const link = document.createElement("a");
    link.className = "log-more";
    link.setAttribute(`data-log-${name}`, "");
    if (name === "earlier") this.#log.prepend(link);
    else this.#log.append(link);
    return link;
  }

  #find(name) {
    return this.#log.querySelector(`[data-log-${name}]`);
  }
}
