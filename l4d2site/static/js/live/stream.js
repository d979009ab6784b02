// Server-Sent Events that reconnect even after answers that make EventSource give up.

import { askStatus } from "./ask_status.js";
import { Waits } from "./waits.js";

// Follow the stream at `address()`, which is called for each connection. `events` maps names to handlers. `onStatus`
// gets "live", "reconnecting", "waiting" with the reason, and, as the last status, "refused". `connect` opens something
// like an EventSource. Returns a function that ends it.
export function follow(address, events, onStatus = () => {}, connect = (at) => new EventSource(at)) {
  let source = null;
  let timer = 0;
  const waits = new Waits();
  const over = new AbortController();

  function open() {
    clearTimeout(timer);
    // A hidden tab keeps no connection: over HTTP/1.1 a browser has six per host, for all its tabs.
    if (over.signal.aborted || source || document.hidden) return;
    source = connect(address());
    source.onopen = () => (waits.succeeded(), onStatus("live"));
    source.onerror = onError;
    for (const [name, handle] of Object.entries(events)) source.addEventListener(name, handle);
    source.addEventListener("refused", refuse);
  }

  async function onError() {
    onStatus("reconnecting");
    // Still connecting: EventSource retries by itself. Closed: it did not accept the answer.
    if (source?.readyState !== EventSource.CLOSED) return;
    drop();
    timer = setTimeout(open, waits.next());
    const { status, retryMs, reason } = await askStatus(address(), over.signal);
    if ([403, 404].includes(status)) refuse();
    else if (retryMs > 0 && !source && !over.signal.aborted) {
      onStatus("waiting", reason);
      clearTimeout(timer);
      timer = setTimeout(open, waits.atLeast(retryMs));
    }
  }

  function refuse() {
    if (over.signal.aborted) return;
    over.abort();
    drop();
    onStatus("refused");
  }

  function drop() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  const listen = { signal: over.signal };
  document.addEventListener("visibilitychange", () => (document.hidden ? drop() : open()), listen);
  window.addEventListener("pagehide", drop, listen);
  window.addEventListener("pageshow", open, listen);
  open();
  return () => (over.abort(), drop());
}
