// Refreshes the page while it shows something marked `data-awaits`: its end is near, and not announced to open pages.

import { refresh } from "./refresh.js";

const LOOK_AGAIN_MS = 1_000;

setInterval(() => document.hidden || !document.querySelector("[data-awaits]") || refresh(), LOOK_AGAIN_MS);
