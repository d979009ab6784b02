// Runs as a worker: keeps a log's stream open, and passes on its events in batches. A browser needs about 25 µs per
// event, too much for the page itself in a flood. An event after a silence is passed on at once.

const GATHER_MS = 40;
const AT_ONCE = 4;

let batch = [];
let timer = 0;
let pacedUntil = 0;

// [name, data, id] of each event; a `status` is "open" or "error", with the state of the source.
function pass(status, state) {
  clearTimeout(timer);
  timer = 0;
  pacedUntil = Math.max(pacedUntil, performance.now()) + GATHER_MS;
  postMessage({ batch, status, state });
  batch = [];
}

onmessage = ({ data: { address, names } }) => {
  const source = new EventSource(address);
  source.onopen = () => pass("open", source.readyState);
  source.onerror = () => pass("error", source.readyState);
  for (const name of names) {
    source.addEventListener(name, (event) => {
      batch.push([name, event.data, event.lastEventId]);
      timer ||= setTimeout(pass, pacedUntil - AT_ONCE * GATHER_MS - performance.now());
    });
  }
};
