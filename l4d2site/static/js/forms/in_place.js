// Forms marked `data-stay` are sent without leaving the page. The answer is, or redirects to, a page like this one,
// and its differences are put into this page. Without scripts the browser loads the answer instead.

import { swapAnswer } from "../live/answers.js";
import { swapRegions } from "../live/swap.js";
import { AWAY, explain, sayAt } from "./refusals.js";
import { place, sayAll } from "./say.js";

document.addEventListener("submit", async (event) => {
  const form = event.target.closest?.("form[data-stay]");
  if (!form || event.defaultPrevented) return;
  event.preventDefault();
  if (form.ariaBusy === "true") return;
  form.ariaBusy = "true";
  sayAt(form, "");
  const button = event.submitter;
  const address = button?.hasAttribute("formaction") ? button.formAction : form.action;
  try {
    const body = new FormData(form, button);
    await show(await fetch(address, { method: "POST", body, cache: "no-store" }), form);
  } catch {
    sayAt(form, AWAY);
  } finally {
    form.ariaBusy = "false";
  }
});

async function show(response, form) {
  const text = await response.text();
  const page = new DOMParser().parseFromString(text, "text/html");
  if (response.redirected) {
    const { pathname, searchParams } = new URL(response.url);
    if (pathname !== location.pathname) {
      // The input is saved, unless this is the sign-in page because the session is over; that page knows the way back.
      if (!searchParams.has("next")) form.removeAttribute("data-unsaved");
      return location.assign(response.url);
    }
    history.replaceState(null, "", response.url);
  }
  if (page.querySelector("[data-takes-over]")) return takeOver(page);
  const isAnswer = swapAnswer(page, form) || (response.redirected && response.ok);
  if (isAnswer) swapRegions(page);
  const said = page.querySelectorAll(isAnswer ? ".messages .message" : "main [role=alert], main h1");
  const isTold = isAnswer || (said.length && response.status < 500);
  if (!isTold) return sayAt(form, explain(response, text, page));
  const level = isAnswer ? undefined : "error";
  sayAll([...said].map((one) => ({ level: level ?? one.dataset.level, text: one.textContent })));
}

// Show a page that asks before anything is done. As without scripts, it takes the place of the open one.
function takeOver(page) {
  const main = document.querySelector("main");
  main.replaceChildren(place, ...page.querySelector("main").children);
  document.title = page.title;
  sayAll([]);
  main.querySelector("[data-takes-over]").focus();
}
