"""A browser on an installed machine, with only the standard library."""

import http.client
import http.cookies
import ssl
from collections.abc import Mapping
from urllib.parse import urlencode

HOST = "panel.test"


class Browser:
    """Keeps cookies, and goes through nginx."""

    def __init__(self) -> None:
        self._cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    @property
    def token(self) -> str:
        """The token that must be sent with each form."""
        return self._cookies["csrftoken"].value

    def ask(self, method: str, path: str, **fields: str) -> http.client.HTTPResponse:
        """Return the answer, whose body has not been read yet."""
        if not fields:
            return self.send(method, path)
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.send(method, path, urlencode(fields).encode(), kind)

    def send(
        self, method: str, path: str, body: bytes | None = None, more: Mapping[str, str] = {}
    ) -> http.client.HTTPResponse:
        """Send raw bytes; return the answer, whose body has not been read yet."""
        connection = http.client.HTTPSConnection("127.0.0.1", timeout=60, context=self._tls)
        origin = f"https://{HOST}"
        headers = {"Host": HOST, "Referer": f"{origin}{path}", "Origin": origin, **more}
        if cookies := "; ".join(f"{name}={one.value}" for name, one in self._cookies.items()):
            headers["Cookie"] = cookies
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        for text in answer.headers.get_all("Set-Cookie", []):
            self._cookies.load(text)
        return answer

    def sign_in(self, name: str, password: str) -> None:
        """Sign in through the form."""
        self.ask("GET", "/accounts/login/").read()
        self.post("/accounts/login/", username=name, password=password)

    def post(self, path: str, **fields: str) -> str:
        """Send a form that must be accepted; return where it leads."""
        answer = self.ask("POST", path, csrfmiddlewaretoken=self.token, **fields)
        body = answer.read().decode()
        if answer.status not in (http.client.FOUND, http.client.SEE_OTHER):
            raise SystemExit(f"{path} is answered by {answer.status}\n{body}")
        return answer.headers["Location"]
