// Passes on the news of commands sent to a server, from whichever stream brings them.

const listeners = [];
let lastVersion = null;

// `listen` gets the list of commands as HTML, or undefined if it is too long for a stream.
export function onCommands(listen) {
  listeners.push(listen);
}

export function tellCommands(event) {
  const { version, html } = JSON.parse(event.data);
  // The list is sent again with each new connection.
  if (version !== lastVersion) for (const listen of listeners) listen(html);
  lastVersion = version;
}
