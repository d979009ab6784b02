// Amounts of bytes in words, and the rate at which they arrive.

import { fill, ngettext } from "../words.js";

const UNITS = ["bytes", "KB", "MB", "GB"];
const OF_RATE_MS = 4_000;

// `received` of `count` parts have arrived, and `sent` of `total` bytes, `rate` a second. One part is not counted.
export function describeProgress(amounts) {
  const words = ngettext(
    "%(sent)s of %(total)s, %(rate)s a second",
    "%(received)s of %(count)s parts, %(sent)s of %(total)s, %(rate)s a second",
    amounts.count,
  );
  return fillBytes(words, amounts);
}

export function describePause(amounts) {
  const words = ngettext(
    "%(sent)s of %(total)s, paused",
    "%(received)s of %(count)s parts, %(sent)s of %(total)s, paused",
    amounts.count,
  );
  return fillBytes(words, amounts);
}

function fillBytes(words, { sent, total, rate, ...others }) {
  return fill(words, { ...others, sent: inBytes(sent), total: inBytes(total), rate: inBytes(rate) });
}

// As the panel's own pages write bytes.
function inBytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) [count, unit] = [count / 1024, unit + 1];
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

// Bytes a second, over the last few seconds.
export class Rate {
  samples = [];

  add(sent) {
    const now = performance.now();
    this.samples.push([now, sent]);
    while (this.samples[0][0] < now - OF_RATE_MS) this.samples.shift();
    const [then, before] = this.samples[0];
    return now > then ? Math.max(0, (1000 * (sent - before)) / (now - then)) : 0;
  }
}
