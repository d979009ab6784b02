// Puts lines from a stream into the rows of a log, a part at a time, so that the page stays fast in a flood.

import { inFrames } from "./in_frames.js";
import { MOST_ROWS } from "./rows.js";
import { readRange, selectLines } from "./permalink.js";

const BUDGET_MS = 6;
const PORTION = 20;
const PAUSE_MS = 40; // If one frame is not enough for all, some are left to the browser and the reader.

export class Inflow {
  #waiting = [];
  #plan = inFrames(() => this.#draw());

  // `parts` are the `log`, its `rows`, `tail` and `links`, and `onFull`, called when the rows being read leave no room.
  constructor(parts) {
    Object.assign(this, parts);
  }

  push(entry) {
    this.#waiting.push(entry);
    this.#plan();
  }

  clear() {
    this.#waiting = [];
  }

  #draw() {
    if (!this.#waiting.length) return;
    if (this.tail.isFollowed) this.#drawNewest();
    else this.#drawBelow(MOST_ROWS - this.rows.count);
    if (readRange()) selectLines(this.log);
    if (this.#waiting.length) this.#plan(PAUSE_MS);
  }

  #drawNewest() {
    const surplus = this.#waiting.length - MOST_ROWS;
    // Rows that would be removed at once are not made at all.
    if (surplus > 0) this.rows.skip(this.#waiting.splice(0, surplus));
    this.#add(Infinity);
    if (this.rows.cut(true) || surplus > 0) this.links.offer("earlier");
    this.tail.show();
  }

  // Rows that somebody is reading stay. Lines that have no room after them wait for a request.
  #drawBelow(room) {
    if (room > 0) return this.#add(room);
    this.links.offer("later");
    this.onFull();
  }

  #add(most) {
    const until = performance.now() + BUDGET_MS;
    for (let room = most; room > 0 && this.#waiting.length; room -= PORTION) {
      this.rows.add(this.#waiting.splice(0, Math.min(PORTION, room)));
      if (this.rows.last && performance.now() >= until) return; // A link to other lines needs a row to start from.
    }
  }
}
