// A bar for each file that is being sent.

export class PartBars {
  constructor(list) {
    this.list = list;
    this.bars = new Map();
  }

  show(running) {
    for (const part of running) this.barOf(part).value = part.size ? (100 * part.sent) / part.size : 100;
    for (const [part, bar] of this.bars) {
      if (running.has(part)) continue;
      bar.parentElement.remove();
      this.bars.delete(part);
    }
  }

  clear() {
    this.bars.clear();
    this.list.replaceChildren();
  }

  barOf(part) {
    if (this.bars.has(part)) return this.bars.get(part);
    const [item, name, bar] = ["li", "span", "progress"].map((tag) => document.createElement(tag));
    name.textContent = bar.ariaLabel = part.label ?? part.path;
    bar.max = 100;
    item.append(name, bar);
    this.list.append(item);
    this.bars.set(part, bar);
    return bar;
  }
}
