// Shows a password in place of its dots, or why it cannot. Without scripts its form leads to a page.

// Passwords stay visible when the page refreshes itself, until the page is left.
const shown = new Map();

document.addEventListener("submit", async (event) => {
  const form = event.target.closest?.("form[data-secret]");
  if (!form) return;
  event.preventDefault();
  const path = form.getAttribute("action");
  if (shown.delete(path)) return update(form);
  const text = await ask(form);
  if (text === null) return form.submit(); // The page says what is wrong: signed out, removed, no answer.
  shown.set(path, text);
  update(form.isConnected ? form : document.querySelector(`form[action="${CSS.escape(path)}"]`));
});

async function ask(form) {
  try {
    const options = { method: "POST", body: new FormData(form), headers: { Accept: "text/plain" } };
    const response = await fetch(form.action, { ...options, redirect: "error", cache: "no-store" });
    return response.ok || response.status === 409 ? await response.text() : null;
  } catch {
    return null;
  }
}

function update(form) {
  if (!form) return;
  const text = shown.get(form.getAttribute("action"));
  const button = form.querySelector("button");
  form.querySelector("[data-secret-value]").textContent = text ?? "••••";
  button.textContent = text === undefined ? "Show" : "Hide";
  button.ariaLabel = button.ariaLabel.replace(/^\w+/, button.textContent);
}

// After `root` was rendered again, show the passwords in it that were visible.
export function showSecretsAgain(root) {
  for (const form of root.querySelectorAll("form[data-secret]")) update(form);
}
