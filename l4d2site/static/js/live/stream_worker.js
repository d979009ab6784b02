// Runs as a worker: holds the stream of a log, and passes on what comes in batches. A browser takes some 25 µs for
// each event, which in a flood the page itself cannot spare. What comes after a silence is passed on at once.

const GATHER_MS = 40;
const AT_ONCE = 4;

let batch = [];
let timer = 0;
let pacedUntil = 0;

// [name, data, id] of each event; a `status` is "open" or "error", with the state that the source is in.
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
