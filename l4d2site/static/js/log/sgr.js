// How "Select Graphic Rendition" (ECMA-48, 8.3.117) changes the look of text. `servers/logs/ansi.py` does the same.

import { findColour } from "./palette.js";

const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike", 21: "underline" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"], 39: ["fg"], 49: ["bg"] };
const STYLES = ["bold", "dim", "italic", "underline", "strike", "inverse"];

// Return the CSS classes of a look, in a fixed order.
export function toClasses(look) {
  const colours = ["fg", "bg"].filter((key) => look[key] !== undefined);
  const classes = colours.map((key) => `ansi-${key}-${look[key]}`);
  classes.push(...STYLES.filter((style) => look[style]).map((style) => `ansi-${style}`));
  return classes.join(" ");
}

// Return `before` as changed by the parameters of a sequence. Unknown codes change nothing.
export function selectRendition(before, parameters) {
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
