// What people drop or choose, as a flat list of { file, path }, including what is in folders.

// Call it while the event is being handled: later, what was dropped can no longer be read.
export function listDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return entries.length ? readAll(entries) : Promise.resolve(listChosen(transfer.files));
}

export function listChosen(files) {
  return [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

async function readAll(entries) {
  const found = [];
  const waiting = [...entries];
  while (waiting.length) {
    const entry = waiting.pop();
    if (entry.isDirectory) waiting.push(...(await readFolder(entry.createReader())));
    else found.push({ file: await readFile(entry), path: entry.fullPath.replace(/^\//, "") });
  }
  return found;
}

// A reader returns some entries at a time, and none at the end.
async function readFolder(reader) {
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}

function readFile(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
