"""A security key in software: makes a passkey, and signs challenges with it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client
from django.urls import reverse
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

HOST = "testserver"
FLAG = AuthenticatorData.FLAG
SIGN_IN = reverse("mfa_login_webauthn")
ADD = reverse("mfa_add_webauthn")


class SecurityKey:
    """One passkey, which knows whose it is. `counter` is how many signatures it says that it has made."""

    def __init__(self, name: bytes = b"a key of sixteen") -> None:
        self.name = name
        self.counter = 0
        self._person = b""
        self._private = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: dict[str, Any], *, says_resident: bool = True) -> str:
        """Return what a browser sends to add it."""
        self._person = websafe_decode(options["publicKey"]["user"]["id"])
        public = ES256.from_cryptography_key(self._private.public_key())  # type: ignore[no-untyped-call]
        attested = AttestedCredentialData.create(bytes(16), self.name, public)
        data = self._data(FLAG.UP | FLAG.UV | FLAG.AT, attested)
        answer = {"attestationObject": AttestationObject.create("none", data, {})}
        extras = {"credProps": {"rk": says_resident}}
        return self._answer("webauthn.create", options["publicKey"], answer, extras)

    def use(self, options: dict[str, Any], *, is_verified: bool = True) -> str:
        """Return what a browser sends to use it."""
        self.counter += 1
        data = self._data(FLAG.UP | (FLAG.UV if is_verified else FLAG(0)))
        client_data = client_data_for("webauthn.get", options["publicKey"])
        signature = self._private.sign(data + client_data.hash, ec.ECDSA(hashes.SHA256()))
        answer = {"authenticatorData": data, "signature": signature}
        answer["userHandle"] = self._person
        return self._answer("webauthn.get", options["publicKey"], answer, {})

    def _data(self, flags: AuthenticatorData.FLAG, attested: bytes = b"") -> AuthenticatorData:
        host = hashlib.sha256(HOST.encode()).digest()
        return AuthenticatorData(AuthenticatorData.create(host, flags, self.counter, attested))

    def _answer(
        self,
        kind: str,
        options: dict[str, Any],
        answer: Mapping[str, bytes],
        extras: dict[str, Any],
    ) -> str:
        parts = {"clientDataJSON": client_data_for(kind, options), **answer}
        return json.dumps(
            {
                "id": websafe_encode(self.name),
                "rawId": websafe_encode(self.name),
                "type": "public-key",
                "response": {part: websafe_encode(value) for part, value in parts.items()},
                "clientExtensionResults": extras,
            }
        )


def client_data_for(kind: str, options: dict[str, Any]) -> CollectedClientData:
    return CollectedClientData.create(kind, options["challenge"], f"https://{HOST}")


def options_on(client: Client, url: str) -> dict[str, Any]:
    """Return what the page at `url` gives the browser to answer."""
    (options,) = client.get(url).context["js_data"].values()
    return cast("dict[str, Any]", options)


def sign_in_options(client: Client) -> dict[str, Any]:
    """Return what a browser is given that signs in with only a passkey."""
    response = client.get(SIGN_IN, headers={"accept": "application/json"})
    return cast("dict[str, Any]", response.json()["request_options"])


def add(client: Client, key: SecurityKey, *, alone: bool = True, says_resident: bool = True) -> Any:
    """Add `key` to the account of `client`, who has just confirmed their identity."""
    credential = key.create(options_on(client, ADD), says_resident=says_resident)
    sent = {"name": "stick", "credential": credential, **({"passwordless": "on"} if alone else {})}
    return client.post(ADD, sent)
