// Hands on that there is news of the commands that were sent to a server, from whatever stream tells it.

const listeners = [];
let lastVersion = null;

export function onCommands(listen) {
  listeners.push(listen);
}

export function tellCommands(event) {
  const { version } = JSON.parse(event.data);
  // The page was made with the first one, or a moment before.
  if (version !== lastVersion) for (const listen of listeners) listen();
  lastVersion = version;
}
