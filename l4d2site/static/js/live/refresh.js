// Fetches the page again and puts what has changed into its live regions, marked by `data-live`.

import { sayOfPage } from "./notice.js";
import { swapRegions } from "./swap.js";

const SHORTEST_PAUSE_MS = 1_000;
const GATHER_MS = 150;

let timer = 0;
let lastAt = -Infinity;
let isRunning = false;
let isWanted = false;

// Request a refresh; many requests within a short time cause only one.
export function refresh() {
  isWanted = true;
  if (timer || isRunning) return;
  const pause = Math.max(GATHER_MS, lastAt + SHORTEST_PAUSE_MS - performance.now());
  timer = setTimeout(run, pause);
}

async function run() {
  timer = 0;
  isWanted = false;
  isRunning = true;
  try {
    const headers = { "X-Saferoom-Refresh": "1" }
    const response = await fetch(location.href, { headers, redirect: "error", cache: "no-store" });
    sayOfPage(response.status);
    if (response.ok) swapRegions(new DOMParser().parseFromString(await response.text(), "text/html"));
  } catch {
    // The server does not answer, or wants a sign-in. The stream in `live.js` reports that, and retries.
  } finally {
    lastAt = performance.now();
    isRunning = false;
    if (isWanted) refresh();
  }
}
