// Shows the progress of an upload: in all, and of each file that is being sent.

import { fill, gettext, ngettext } from "../words.js";
import { describePause, describeProgress, Rate } from "./amounts.js";
import { PartBars } from "./part_bars.js";

const TOLD_EACH_PERCENT = 25;

export class Progress {
  constructor(panel) {
    this.panel = panel;
    this.said = panel.querySelector("[data-upload-said]");
    this.news = panel.querySelector("[data-upload-news]");
    this.all = panel.querySelector("[data-upload-all]");
    this.bars = new PartBars(panel.querySelector("[data-upload-files]"));
    this.rate = new Rate();
  }

  prepare(count) {
    this.panel.hidden = false;
    this.all.removeAttribute("value");
    const words = ngettext("Preparing to send %(count)s file…", "Preparing to send %(count)s files…", count);
    this.said.textContent = fill(words, { count });
  }

  show({ total, sent, parts, running, isPaused }) {
    this.panel.hidden = false;
    this.all.value = total ? (100 * sent) / total : 100;
    const received = parts.filter((part) => part.isReceived).length;
    const amounts = { received, count: parts.length, sent, total, rate: this.rate.add(sent) };
    this.said.textContent = isPaused ? describePause(amounts) : describeProgress(amounts);
    this.tell(isPaused);
    this.bars.show(running);
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
    this.bars.clear();
    this.rate = new Rate();
  }
}
