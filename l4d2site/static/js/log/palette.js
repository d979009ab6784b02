// Maps every colour of a terminal to the nearest of sixteen. `servers/logs/ansi.py` explains it, and does the same.

const PALETTE = [
  [0, 0, 0],
  [205, 0, 0],
  [0, 205, 0],
  [205, 205, 0],
  [0, 0, 238],
  [205, 0, 205],
  [0, 205, 205],
  [229, 229, 229],
  [127, 127, 127],
  [255, 0, 0],
  [0, 255, 0],
  [255, 255, 0],
  [92, 92, 255],
  [255, 0, 255],
  [0, 255, 255],
  [255, 255, 255],
];
const CUBE_LEVELS = [0, 95, 135, 175, 215, 255];

// Return the palette number for `[5, n]` or `[2, (space,) red, green, blue]`, or undefined.
export function findColour([kind, ...rest]) {
  if (kind === 5 && rest.length === 1) return from256(rest[0]);
  if (kind !== 2 || rest.length < 3 || rest.length > 4) return undefined;
  const colour = rest.slice(-3);
  return Math.max(...colour) <= 255 ? nearest(colour) : undefined;
}

function from256(number) {
  if (number < 16) return number;
  if (number > 255) return undefined;
  if (number >= 232) return nearest(Array(3).fill(8 + 10 * (number - 232)));
  const index = number - 16;
  return nearest([Math.floor(index / 36), Math.floor(index / 6) % 6, index % 6].map((level) => CUBE_LEVELS[level]));
}

function nearest(colour) {
  const distances = PALETTE.map((other) => other.reduce((sum, value, i) => sum + (value - colour[i]) ** 2, 0));
  return distances.indexOf(Math.min(...distances));
}
