// Makes one blob of many files, as tar has them (POSIX.1-2001). None of them is read: a blob refers to them.

const BLOCK = 512;
const encoder = new TextEncoder();

export function makeTar(files) {
  const pieces = files.flatMap(({ file, path }) => [
    ...describePath(path),
    makeHeader(path, file.size, "0"),
    file,
    padding(file.size),
  ]);
  return new Blob([...pieces, new Uint8Array(2 * BLOCK)]);
}

// A path that is longer than a header has room for, or not ASCII, stands in a record of its own before it.
function describePath(path) {
  if (path.length <= 100 && /^[ -~]*$/.test(path)) return [];
  const rest = encoder.encode(` path=${path}\n`);
  // The record begins with its own length, digits and all.
  let length = rest.length + String(rest.length).length;
  if (String(length).length > String(rest.length).length) length += 1;
  const record = [encoder.encode(String(length)), rest];
  return [makeHeader("path", length, "x"), ...record, padding(length)];
}

function makeHeader(path, size, kind) {
  const header = new Uint8Array(BLOCK);
  const put = (text, at) => header.set(encoder.encode(text), at);
  const octal = (number, digits) => `${number.toString(8).padStart(digits, "0")}\0`;
  header.set(encoder.encode(path).slice(0, 100), 0);
  put(octal(0o644, 7), 100);
  put(octal(0, 7), 108);
  put(octal(0, 7), 116);
  put(octal(size, 11), 124);
  put(octal(0, 11), 136);
  put("        ", 148);
  put(kind, 156);
  put("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

function padding(size) {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}
