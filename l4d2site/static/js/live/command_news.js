// Hands on the news of the commands that were sent to a server, from whatever stream tells them.

const listeners = [];
let lastVersion = null;

// `listen` is given the list of commands as HTML, or undefined where it is too long for a stream.
export function onCommands(listen) {
  listeners.push(listen);
}

export function tellCommands(event) {
  const { version, html } = JSON.parse(event.data);
  // It comes again with each new connection.
  if (version !== lastVersion) for (const listen of listeners) listen(html);
  lastVersion = version;
}
