// What a terminal would make of a log line: colours and weights become CSS classes, all else is dropped.
// `servers/ansi.py` follows the same rules, and explains them.

import { findColour } from "./palette.js";

const ESCAPE = new RegExp(
  "(?:\\x1b\\[|\\x9b)([0-?]*)([ -/]*[@-~])" +
    "|(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d-\\x9f])[^\\x07\\x1b\\x9c]*(?:\\x07|\\x1b\\\\|\\x9c)" +
    "|\\x1b[ -/]*[0-~]" +
    "|[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f]",
  "g",
);
const SGR_PARAMETERS = /^[0-9;:]*$/;
const STYLES = ["bold", "dim", "italic", "underline", "strike", "inverse"];
const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike", 21: "underline" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"], 39: ["fg"], 49: ["bg"] };

// Return the text of `line` as a list of { text, classes }. No text is empty.
export function toPieces(line) {
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
  const classes = ["fg", "bg"].filter((key) => look[key] !== undefined).map((key) => `ansi-${key}-${look[key]}`);
  classes.push(...STYLES.filter((style) => look[style]).map((style) => `ansi-${style}`));
  const last = pieces.at(-1);
  if (last?.classes === classes.join(" ")) last.text += text;
  else pieces.push({ text, classes: classes.join(" ") });
}

function selectRendition(before, parameters) {
  let look = { ...before };
  const codes = parameters.split(";").map((group) => group.split(":").map(toNumber));
  while (codes.length) {
    let [code, ...details] = codes.shift();
    if (code === 38 || code === 48 || code === 58) {
      if (!details.length) details = takeColour(codes);
      const colour = findColour(details);
      if (colour !== undefined && code !== 58) look[code === 38 ? "fg" : "bg"] = colour;
    } else if (code === 0) look = {};
    else if (code === 4 && details.length === 1 && details[0] === 0) delete look.underline;
    else if (code in ON) look[ON[code]] = true;
    else if (code in OFF) for (const key of OFF[code]) delete look[key];
    else if (code >= 30 && code <= 37) look.fg = code - 30;
    else if (code >= 90 && code <= 97) look.fg = code - 82;
    else if (code >= 40 && code <= 47) look.bg = code - 40;
    else if (code >= 100 && code <= 107) look.bg = code - 92;
  }
  return look;
}

function toNumber(text) {
  return text.length > 5 ? 99_999 : Number(text);
}

function takeColour(codes) {
  const length = { 5: 2, 2: 4 }[codes[0]?.[0]] ?? 0;
  return codes.splice(0, length).map((code) => code[0]);
}
