// Forms sent with a passkey's answer; without scripts, or if the browser has no passkeys, they stay hidden.

import { createPasskey, usePasskey } from "./webauthn_json.js";
import { fill, gettext } from "../words.js";

const ways = {
  // To sign in with only a passkey: the server is asked for a challenge only now.
  "[data-passkey-sign-in]": async (form) => {
    const response = await fetch(form.action, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(fill(gettext("the panel answered %(status)s"), response));
    return usePasskey((await response.json()).request_options);
  },
  "[data-passkey-use]": (form) => usePasskey(readOptions(form)),
  "[data-passkey-add]": (form) => {
    const options = readOptions(form);
    const isAlone = form.elements.passwordless?.checked ?? false;
    const selection = options.publicKey.authenticatorSelection;
    selection.residentKey = isAlone ? "required" : "discouraged";
    selection.requireResidentKey = isAlone;
    if (isAlone) selection.userVerification = "required";
    return createPasskey(options);
  },
};

function readOptions(form) {
  return JSON.parse(form.querySelector("script[type='application/json']").textContent);
}

function explain(error) {
  if (error.name === "InvalidStateError") return gettext("This device has a passkey for you already.");
  if (error.name === "NotAllowedError") return gettext("No passkey was used. Try again, or choose another way.");
  return fill(gettext("That did not work: %(message)s"), error);
}

for (const [selector, ask] of Object.entries(ways)) {
  for (const form of document.querySelectorAll(selector)) {
    if (!window.PublicKeyCredential) continue;
    form.hidden = false;
    const said = form.querySelector("[data-passkey-error]");
    said.hidden = !said.textContent.trim();
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      said.hidden = true;
      try {
        form.elements.credential.value = JSON.stringify(await ask(form));
        form.submit();
      } catch (error) {
        said.textContent = explain(error);
        said.hidden = false;
      }
    });
  }
}
