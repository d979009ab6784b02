// Makes the row of a live line, as `servers/templatetags/log_lines.py` does for lines of a page.

import { toPieces } from "./ansi.js";
import { fill, gettext } from "../words.js";

// Return the row, with the matches of `wanted` marked, a global regular expression or null. With `home`, it is a guest
// on a page: it has no id there, and its number links to that address.
export function makeRow({ seq, stream, text, at }, wanted, home) {
  const row = document.createElement("div");
  row.className = "log-line";
  if (!home) row.id = `L${seq}`;
  row.dataset.seq = seq;
  if (stream) row.dataset.stream = stream;
  const number = document.createElement("a");
  number.className = "log-number";
  number.href = `${home ?? ""}?line=${seq}#L${seq}`;
  number.tabIndex = -1;
  number.ariaLabel = fill(gettext("Line %(line)s"), { line: seq });
  number.dataset.seq = seq;
  number.dataset.at = at;
  row.append(number);
  let pieces = toPieces(text);
  if (wanted) pieces = markPieces(pieces, wanted);
  for (const piece of pieces) row.append(makePiece(piece));
  return row;
}

// Return the expression that finds `text` as the server's search does, or null if there is no text.
export function toPattern(text) {
  return text ? new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi") : null;
}

function makePiece({ text, classes, isWanted }) {
  if (!classes && !isWanted) return document.createTextNode(text);
  const element = document.createElement(isWanted ? "mark" : "span");
  if (classes) element.className = classes;
  element.textContent = text;
  return element;
}

// Split the pieces where a match in their whole text begins or ends.
export function markPieces(pieces, wanted) {
  const whole = pieces.map((piece) => piece.text).join("");
  const spans = [...whole.matchAll(wanted)].map((match) => [match.index, match.index + match[0].length]);
  const cuts = [...new Set(spans.flat())].sort((one, other) => one - other);
  let position = 0;
  return pieces.flatMap(({ text, classes }) => {
    const [begin, end] = [position, (position += text.length)];
    const edges = [begin, ...cuts.filter((cut) => begin < cut && cut < end), end];
    return edges.slice(0, -1).map((left, i) => ({
      text: text.slice(left - begin, edges[i + 1] - begin),
      classes,
      isWanted: spans.some(([from, to]) => from <= left && left < to),
    }));
  });
}
