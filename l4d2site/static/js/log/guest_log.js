// A job's log on a page about something else: a link with `data-guest-of` opens it in the place marked
// `data-guest-log`, live while it is open. It is fetched as rendered for the job's page.

import { fetchPage } from "./fetch_page.js";
import { Inflow } from "./inflow.js";
import { LogRows } from "./rows.js";
import { LogStatus } from "./status.js";
import { LogStream } from "./log_stream.js";
import { Tail } from "./tail.js";

const place = document.querySelector("[data-guest-log]");
let shown = "";
let end = () => {};

function fold() {
  end();
  shown = "";
  place.hidden = true;
  place.replaceChildren();
}

// Remove what only works on the job's own page: anchors of lines, a search, older lines.
function adapt(frame, home) {
  for (const part of frame.querySelectorAll(".log-tools, .log-found, .log-more, noscript")) part.remove();
  for (const row of frame.querySelectorAll(".log-line")) row.removeAttribute("id");
  for (const number of frame.querySelectorAll(".log-number")) number.href = home + number.getAttribute("href");
  frame.querySelector("[data-log]").dataset.logHome = home;
  return frame;
}

async function unfold(home) {
  fold();
  shown = home;
  const page = await fetchPage(home);
  if (shown !== home) return;
  const frame = adapt(page.querySelector("[data-log-frame]"), home);
  place.replaceChildren(frame);
  place.hidden = false;
  const log = frame.querySelector("[data-log]");
  const [status, rows] = [new LogStatus(frame), new LogRows(log)];
  const tail = new Tail(log, frame.querySelector("[data-log-jump]"), () => {});
  const inflow = new Inflow({ log, rows, tail, links: { offer() {} }, onFull() {} });
  tail.show();
  end = new LogStream(log, Number(rows.last?.dataset.seq ?? 0), {
    onEntry: (entry) => (status.count(entry), inflow.push(entry)),
    onStatus: (word) => status.show(word),
    onEnd: () => {},
  }).follow();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("[data-guest-of]");
  if (!link || !place || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (shown === link.dataset.guestOf) fold();
  else unfold(link.dataset.guestOf).catch(() => location.assign(link.href));
});
