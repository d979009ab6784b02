// Which parts an upload is sent in: each large file and each archive by itself, many small files as one.

import { fill, ngettext } from "../words.js";
import { makeTar } from "./tar.js";

const SMALL_BYTES = 1024 ** 2;
const FEW = 8;
const BUNDLE_BYTES = 64 * 1024 ** 2;
const BUNDLE_FILES = 4_000;
const ARCHIVE = /\.(zip|7z|rar|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst))$/i;

// The same files always make the same parts, so that what has arrived of them is recognized.
export function planParts(files) {
  const ordered = [...files].sort((one, other) => (one.path < other.path ? -1 : 1));
  const isSmall = ({ file, path }) => file.size <= SMALL_BYTES && !ARCHIVE.test(path);
  const small = ordered.filter(isSmall);
  if (small.length <= FEW) return ordered.map(toPart);
  return [...bundle(small), ...ordered.filter((one) => !isSmall(one)).map(toPart)];
}

function toPart({ file, path }) {
  return { path, content: file, size: file.size, modified: file.lastModified };
}

function* bundle(files) {
  let some = [];
  let bytes = 0;
  for (const one of files) {
    if (some.length === BUNDLE_FILES || bytes + one.file.size > BUNDLE_BYTES) {
      yield toBundle(some);
      [some, bytes] = [[], 0];
    }
    some.push(one);
    bytes += one.file.size;
  }
  if (some.length) yield toBundle(some);
}

function toBundle(files) {
  const content = makeTar(files);
  const list = files.map(({ file, path }) => `${path}\n${file.size}\n${file.lastModified}`);
  const path = `${files.length} small files (${hash(list.join("\n"))}).tar`;
  const count = files.length;
  const label = fill(ngettext("%(count)s small file", "%(count)s small files", count), { count });
  return { path, label, content, size: content.size, modified: 0, isBundle: true };
}

// FNV-1a, twice with different beginnings: tells lists of files apart, and needs no secure context.
function hash(text) {
  let [one, other] = [0x811c9dc5, 0x01000193];
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    one = Math.imul(one ^ code, 0x01000193);
    other = Math.imul(other ^ code, 0x85ebca6b);
  }
  return [one, other].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}
