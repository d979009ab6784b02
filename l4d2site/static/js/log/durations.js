// How long each chapter of a log took and, updated every second, how long the current one has taken so far.

// How far this machine's clock is ahead of the server's.
let ahead = 0;

// Keep the durations in `log` up to date.
export function showDurations(log) {
  ahead = Date.now() - Date.parse(log.dataset.logNow);
  setInterval(() => {
    const over = document.querySelector("[data-run-ended]")?.dataset.runEnded;
    for (const duration of log.querySelectorAll("[data-began]:not([data-ended])")) {
      if (over && Date.parse(over) >= Date.parse(duration.dataset.began)) duration.dataset.ended = over;
      show(duration);
    }
  }, 1_000);
}

export function makeDuration(began) {
  const duration = document.createElement("span");
  duration.className = "log-took";
  duration.dataset.began = began;
  show(duration);
  return duration;
}

// Stop the running ones, at the time `ended` or now.
export function endDuration(root, ended = new Date(Date.now() - ahead).toISOString()) {
  for (const duration of root.querySelectorAll("[data-began]:not([data-ended])")) {
    duration.dataset.ended = ended;
    show(duration);
  }
}

function show(duration) {
  const { began, ended } = duration.dataset;
  const until = ended ? Date.parse(ended) : Date.now() - ahead;
  duration.textContent = describe(Math.max(0, until - Date.parse(began)) / 1_000);
}

// In the words of `servers/durations.py`.
export function describe(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3_600), Math.floor(whole / 60) % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
