// An EventSource in a worker, with as much of its interface as `stream.js` needs: see `stream_worker.js`.

export class WorkerSource {
  #worker;
  #address;
  #handlers = new Map();
  readyState = EventSource.CONNECTING;
  onopen = null;
  onerror = null;

  constructor(script, address) {
    this.#worker = new Worker(script);
    this.#worker.onmessage = ({ data }) => this.#onMessage(data);
    this.#worker.onerror = () => this.#onMessage({ batch: [], status: "error", state: EventSource.CLOSED });
    this.#address = new URL(address, location.href).href;
    // After the handlers are set.
    queueMicrotask(() => this.#worker.postMessage({ address: this.#address, names: [...this.#handlers.keys()] }));
  }

  addEventListener(name, handle) {
    this.#handlers.set(name, handle);
  }

  close() {
    this.readyState = EventSource.CLOSED;
    this.#worker.terminate();
  }

  #onMessage({ batch, status, state }) {
    for (const [name, data, lastEventId] of batch) {
      // A handler may have closed it: then nobody wants the remaining events.
      if (this.readyState === EventSource.CLOSED) return;
      this.#handlers.get(name)({ data, lastEventId });
    }
    if (status === undefined || this.readyState === EventSource.CLOSED) return;
    this.readyState = state;
    if (status === "open") this.onopen?.();
    else this.onerror?.();
  }
}
