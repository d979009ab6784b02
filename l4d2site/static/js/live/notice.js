// Says at the top of the page that it may be out of date, and why.

import { gettext } from "../words.js";

const NOT_FOUND = 404;
const METHOD_NOT_ALLOWED = 405;
const REASONS = {
  [NOT_FOUND]: gettext(
    "What this page is about is no longer there: it may have been removed. The page is not kept up to date.",
  ),
  [METHOD_NOT_ALLOWED]: gettext("This page is not kept up to date until you send its form again."),
};

const notice = document.querySelector("[data-connection]");
let ofConnection = "";
let ofPage = "";

// Say what is wrong with the connection; nothing if the text is empty.
export function sayOfConnection(text) {
  ofConnection = text;
  show();
}

// Say why the page cannot be fetched again, if the status of the last try tells.
export function sayOfPage(status) {
  ofPage = REASONS[status] ?? "";
  show();
}

function show() {
  const text = ofConnection || ofPage;
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
}
