// Addresses of lines: `#L10`, and `#L10-L20` for a range. A click on a number makes one, with Shift a range.

const HASH = /^#L(\d+)(?:-L(\d+))?$/;

// Return the first and last line that the address names, or null.
export function readRange() {
  const match = HASH.exec(location.hash);
  if (!match) return null;
  const [one, other] = [Number(match[1]), Number(match[2] ?? match[1])];
  return [Math.min(one, other), Math.max(one, other)];
}

// Mark exactly the rows below `root` that the address names.
export function selectLines(root = document) {
  const [first, last] = readRange() ?? [1, 0];
  for (const row of root.querySelectorAll(".log-line[aria-current]")) {
    if (row.dataset.seq < first || row.dataset.seq > last) row.removeAttribute("aria-current");
  }
  for (let seq = first; seq <= Math.min(last, first + 10_000); seq += 1) {
    document.getElementById(`L${seq}`)?.setAttribute("aria-current", "true");
  }
  document.dispatchEvent(new Event("saferoom:selection"));
}

function onClick(event) {
  const number = event.target.closest?.(".log-number");
  if (!number || event.ctrlKey || event.metaKey || number.closest("[data-log-home]")) return;
  event.preventDefault();
  const seq = Number(number.parentElement.dataset.seq);
  const start = event.shiftKey ? readRange()?.[0] : undefined;
  const [first, last] = [Math.min(start ?? seq, seq), Math.max(start ?? seq, seq)];
  const query = new URLSearchParams(location.search);
  query.delete("before");
  query.delete("after");
  query.set("line", first);
  history.replaceState(null, "", `?${query}#L${first}${last > first ? `-L${last}` : ""}`);
  selectLines();
}

// Show the lines that the address names; a line that is not on this page is on the page around it.
function show() {
  const range = readRange();
  if (!range || !document.querySelector("[data-log]")) return;
  const row = document.getElementById(`L${range[0]}`);
  if (row) {
    row.closest("details")?.setAttribute("open", "");
    row.scrollIntoView({ block: "center" });
    selectLines();
    return;
  }
  const query = new URLSearchParams(location.search);
  if (query.get("line") === String(range[0])) return;
  location.replace(`?line=${range[0]}${location.hash}`);
}

document.addEventListener("click", onClick);
window.addEventListener("hashchange", show);
show();
