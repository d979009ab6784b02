// Follows the log or console on a page, at the element with `data-log`.

import { LogView } from "./log_view.js";
import { refresh } from "./refresh.js";
import { follow } from "./stream.js";
import { Tail } from "./tail.js";

const WORDS = { live: "Live", reconnecting: "Reconnecting…", ended: "Ended" };

function start(frame) {
  const log = frame.querySelector("[data-log]");
  const status = frame.querySelector("[data-log-status]");
  const tail = new Tail(log, frame.querySelector("[data-log-jump]"));
  const view = new LogView(log, () => tail.keep());

  function show(word) {
    status.textContent = WORDS[word];
    status.dataset.state = word;
  }

  const onLine = (stream) => (event) => view.add(Number(event.lastEventId), stream, event.data);
  const end = follow(
    () => `${log.dataset.log}?after=${view.lastSeq}`,
    {
      stdout: onLine("stdout"),
      stderr: onLine("stderr"),
      message: onLine(""),
      state: refresh,
      end() {
        end();
        show("ended");
        refresh();
      },
    },
    show,
  );
}

for (const frame of document.querySelectorAll("[data-log-frame]:has([data-log])")) start(frame);
