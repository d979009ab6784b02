// Shows how far an upload is: in all, and each file that is being sent.

import { fill, gettext, ngettext } from "../words.js";

const UNITS = ["bytes", "KB", "MB", "GB"];
const OF_RATE_MS = 4_000;
const TOLD_EACH_PERCENT = 25;

export class Progress {
  constructor(panel) {
    this.panel = panel;
    this.said = panel.querySelector("[data-upload-said]");
    this.news = panel.querySelector("[data-upload-news]");
    this.all = panel.querySelector("[data-upload-all]");
    this.files = panel.querySelector("[data-upload-files]");
    this.samples = [];
    this.rows = new Map();
  }

  prepare(count) {
    this.panel.hidden = false;
    this.all.removeAttribute("value");
    this.said.textContent = fill(
      ngettext("Preparing to send %(count)s file…", "Preparing to send %(count)s files…", count),
      { count },
    );
  }

  show(sending) {
    this.panel.hidden = false;
    const { total, sent, parts, running, isPaused } = sending;
    this.all.value = total ? (100 * sent) / total : 100;
    const received = parts.filter((part) => part.isReceived).length;
    const words = isPaused
      ? ngettext(
          "%(received)s of %(count)s part, %(sent)s of %(total)s, paused",
          "%(received)s of %(count)s parts, %(sent)s of %(total)s, paused",
          parts.length,
        )
      : ngettext(
          "%(received)s of %(count)s part, %(sent)s of %(total)s, %(rate)s a second",
          "%(received)s of %(count)s parts, %(sent)s of %(total)s, %(rate)s a second",
          parts.length,
        );
    const rate = inBytes(this.rate(sent));
    const values = { received, count: parts.length, sent: inBytes(sent), total: inBytes(total), rate };
    this.said.textContent = fill(words, values);
    this.tell(isPaused);
    for (const part of running) this.row(part).value = part.size ? (100 * part.sent) / part.size : 100;
    for (const [part, bar] of this.rows) {
      if (running.has(part)) continue;
      bar.parentElement.remove();
      this.rows.delete(part);
    }
  }

  // What a screen reader says: a few words now and then, not each number.
  tell(isPaused) {
    const percent = Math.floor(this.all.value / TOLD_EACH_PERCENT) * TOLD_EACH_PERCENT;
    const words = isPaused ? gettext("The upload is paused.") : gettext("%(percent)s % uploaded");
    const told = fill(words, { percent });
    if (this.news.textContent !== told) this.news.textContent = told;
  }

  hide() {
    this.panel.hidden = true;
    this.news.textContent = "";
    this.rows.clear();
    this.files.replaceChildren();
    this.samples = [];
  }

  row(part) {
    if (this.rows.has(part)) return this.rows.get(part);
    const [item, name, bar] = ["li", "span", "progress"].map((tag) => document.createElement(tag));
    name.textContent = bar.ariaLabel = part.label ?? part.path;
    bar.max = 100;
    item.append(name, bar);
    this.files.append(item);
    this.rows.set(part, bar);
    return bar;
  }

  // Bytes a second, over the last few seconds.
  rate(sent) {
    const now = performance.now();
    this.samples.push([now, sent]);
    while (this.samples[0][0] < now - OF_RATE_MS) this.samples.shift();
    const [then, before] = this.samples[0];
    return now > then ? Math.max(0, (1000 * (sent - before)) / (now - then)) : 0;
  }
}

// As the panel's own pages write bytes.
export function inBytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) [count, unit] = [count / 1024, unit + 1];
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}
