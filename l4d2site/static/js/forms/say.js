// Says something at the top of the page, as the messages that come with a page do.

// There before anything is said, so that screen readers listen to it.
const place = document.createElement("div");
place.className = "said";
place.role = "status";
document.querySelector("main")?.prepend(place);

// Say these and nothing else: `level` is as Django's messages have it.
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
