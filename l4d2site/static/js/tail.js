// Keeps a log at its newest line while the reader is there, and leaves it alone once they scroll up.

const SLACK_PX = 24;

export class Tail {
  #log;
  #jump;
  #isFollowed = true;

  // `jump` is the button that leads back to the newest line.
  constructor(log, jump) {
    this.#log = log;
    this.#jump = jump;
    log.addEventListener("scroll", () => this.#follow(this.#isInView()), { passive: true });
    jump.addEventListener("click", () => {
      this.show();
      log.focus({ preventScroll: true });
    });
    this.show();
  }

  // Call it after lines were added.
  keep() {
    if (this.#isFollowed) this.show();
  }

  show() {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#follow(true);
  }

  #isInView() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    return scrollHeight - scrollTop - clientHeight < SLACK_PX;
  }

  #follow(isFollowed) {
    this.#isFollowed = isFollowed;
    this.#jump.hidden = isFollowed;
  }
}
