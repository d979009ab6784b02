// Server-Sent Events that come back: also after answers at which EventSource itself gives up.

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

// Follow the stream at `address()`, which is asked anew for each connection. `events` maps names to
// handlers; `onStatus` hears "live" and "reconnecting". Returns a function that ends it.
export function follow(address, events, onStatus = () => {}) {
  let source = null;
  let timer = 0;
  let wait = FIRST_WAIT_MS;
  let isOver = false;

  function open() {
    clearTimeout(timer);
    // A hidden tab holds no connection: over HTTP/1.1 a browser has six for a host, in all its tabs.
    if (isOver || source || document.hidden) return;
    source = new EventSource(address());
    source.onopen = () => {
      wait = FIRST_WAIT_MS;
      onStatus("live");
    };
    source.onerror = onError;
    for (const [name, handle] of Object.entries(events)) source.addEventListener(name, handle);
  }

  function onError() {
    onStatus("reconnecting");
    // Still connecting: EventSource tries again by itself. Closed: the answer was none it accepts.
    if (source?.readyState !== EventSource.CLOSED) return;
    drop();
    timer = setTimeout(open, wait);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }

  function drop() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  const onVisibility = () => (document.hidden ? drop() : open());
  document.addEventListener("visibilitychange", onVisibility);
  window.addEventListener("pagehide", drop);
  window.addEventListener("pageshow", open);
  open();

  return function end() {
    isOver = true;
    drop();
    document.removeEventListener("visibilitychange", onVisibility);
    window.removeEventListener("pagehide", drop);
    window.removeEventListener("pageshow", open);
  };
}
