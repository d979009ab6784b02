// Interprets a log line as a terminal would: colours and weights become CSS classes, the rest is dropped.
// `servers/logs/ansi.py` follows the same rules, and explains them.

import { selectRendition, toClasses } from "./sgr.js";

const ESCAPE = new RegExp(
  "(?:\\x1b\\[|\\x9b)([0-?]*)([ -/]*[@-~])" +
    "|(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d-\\x9f])[^\\x07\\x1b\\x90\\x98\\x9c-\\x9f]*(?:\\x07|\\x1b\\\\|\\x9c)" +
    "|\\x1b[ -/]*[0-~]" +
    "|[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f]",
  "g",
);
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/;
const MOST_PIECES = 100;
const SGR_PARAMETERS = /^[0-9;:]*$/;

// Return the text of `line` as a list of { text, classes }. No text is empty.
export function toPieces(line) {
  // Most lines have no escape sequences, and in a flood each microsecond counts.
  if (!CONTROL.test(line)) return line ? [{ text: line, classes: "" }] : [];
  const pieces = [];
  let look = {};
  let begin = 0;
  for (const match of line.matchAll(ESCAPE)) {
    addPiece(pieces, line.slice(begin, match.index), look);
    begin = match.index + match[0].length;
    if (match[2] === "m" && SGR_PARAMETERS.test(match[1])) look = selectRendition(look, match[1]);
  }
  addPiece(pieces, line.slice(begin), look);
  return pieces;
}

function addPiece(pieces, text, look) {
  if (!text) return;
  const classes = toClasses(look);
  const last = pieces.at(-1);
  if (last?.classes === classes || pieces.length >= MOST_PIECES) last.text += text;
  else pieces.push({ text, classes });
}
