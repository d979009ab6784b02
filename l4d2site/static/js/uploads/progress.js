// Shows how far an upload is: in all, and each file that is being sent.

const UNITS = ["bytes", "KB", "MB", "GB"];
const OF_RATE_MS = 4_000;

export class Progress {
  constructor(panel) {
    this.panel = panel;
    this.said = panel.querySelector("[data-upload-said]");
    this.all = panel.querySelector("[data-upload-all]");
    this.files = panel.querySelector("[data-upload-files]");
    this.samples = [];
    this.rows = new Map();
  }

  show(sending) {
    this.panel.hidden = false;
    const { total, sent, parts, running, isPaused } = sending;
    this.all.value = total ? (100 * sent) / total : 100;
    const received = parts.filter((part) => part.isReceived).length;
    const rate = isPaused ? "paused" : `${inBytes(this.rate(sent))}/s`;
    this.said.textContent =
      `${received} of ${parts.length} ${parts.length === 1 ? "part" : "parts"}, ` +
      `${inBytes(sent)} of ${inBytes(total)}, ${rate}`;
    for (const part of running) this.row(part).value = part.size ? (100 * part.sent) / part.size : 100;
    for (const [part, bar] of this.rows) {
      if (running.has(part)) continue;
      bar.parentElement.remove();
      this.rows.delete(part);
    }
  }

  hide() {
    this.panel.hidden = true;
    this.rows.clear();
    this.files.replaceChildren();
    this.samples = [];
  }

  row(part) {
    if (this.rows.has(part)) return this.rows.get(part);
    const [item, name, bar] = ["li", "span", "progress"].map((tag) => document.createElement(tag));
    name.textContent = part.path;
    bar.max = 100;
    bar.ariaLabel = part.path;
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

export function inBytes(count) {
  let unit = 0;
  while (count >= 1000 && unit < UNITS.length - 1) [count, unit] = [count / 1000, unit + 1];
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}
