// Shows messages at the top of the page, like the messages that come with a page, or at the page's own place for them.

// Exists before the first message, so that screen readers listen to it.
export const place = document.querySelector("[data-said]") ?? document.createElement("div");
if (!place.isConnected) {
  place.className = "said";
  place.role = "status";
  document.querySelector("main")?.prepend(place);
}

// Show these messages and no others; `level` is that of Django's messages.
export function sayAll(messages) {
  document.querySelector("main > .messages")?.remove();
  const list = document.createElement("ul");
  list.className = "messages";
  for (const { level, text } of messages) {
    const item = document.createElement("li");
    item.className = "message";
    item.dataset.level = level;
    item.textContent = text.trim();
    list.append(item);
  }
  place.replaceChildren(...(messages.length ? [list] : []));
  if (messages.length) place.scrollIntoView({ block: "nearest" });
}
