// Keeps a log at its newest line while the reader is there, and stops when they scroll up.

const SLACK_PX = 24;

export class Tail {
  #log;
  #jump;
  #top = 0;
  #frame = 0;
  isFollowed = false;
  // Whether newer lines are left out of the log: then its end is not the newest line.
  isCut = false;

  // `jump` is the button that returns to the newest line; `onJump` loads it.
  constructor(log, jump, onJump) {
    this.#log = log;
    this.#jump = jump;
    log.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    jump.addEventListener("click", async () => {
      await onJump();
      this.show();
      log.focus({ preventScroll: true });
    });
  }

  // Go to the end, and again when the rows there are laid out: only then their height is known.
  show() {
    this.#goToEnd();
    this.look();
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.isFollowed) this.#goToEnd();
    });
  }

  // Determine where the reader is.
  look() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < SLACK_PX;
    this.isFollowed = !this.isCut && isAtEnd;
    this.#jump.hidden = this.isFollowed;
    this.#top = scrollTop;
  }

  #goToEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#top = this.#log.scrollTop;
  }

  // The end also moves away when rows grow; a reader who has not moved up wants to stay at the end.
  #onScroll() {
    if (this.isFollowed && this.#log.scrollTop >= this.#top) this.#goToEnd();
    else this.look();
  }
}
