"""A program: a crowd that carries on while a panel is upgraded, and reports what happened to it.

    python -m tests.systemd.crowd_program PASSWORD

It runs on the installed machine, and needs only the standard library. It requests pages over and over, types
into the console of the game `alpha`, queries its status as server lists do, and follows its console in the
panel, as kim with an open page does. It creates the file WATCHING when it begins, ends when there is a file
ENOUGH, and prints one JSON object.
"""

import json
import re
import socket
import sys
import threading
import time
from pathlib import Path

from tests.systemd.installed_browser import Browser

WATCHING, ENOUGH = Path("/tmp/watching"), Path("/tmp/enough")
CONSOLE = Path("/srv/saferoom/host/instances/alpha/console.in")
PORT = 27_015
QUERY = b"\xff\xff\xff\xffTSource Engine Query\0"
TALK_SECONDS = 0.05
QUERY_SECONDS = 1.0
"""If asked more often the game would not answer: it counts what one address asks."""
LAST_LINES_SECONDS = 30
"""How long the last lines may take to be seen: a new worker has to copy them."""


class Crowd:
    """Everything that goes on, and what is known about it."""

    def __init__(self, password: str) -> None:
        self._browser = Browser()
        self._browser.sign_in("kim", password)
        self.said = 0
        self.seen: list[int] = []
        self.follows = 0
        self.game_answers = 0
        self.players: list[int] = []
        self.unanswered_seconds = 0.0
        self._is_over = threading.Event()

    def talk(self) -> None:
        """Let two players join, and have the game print a numbered line, again and again."""
        with CONSOLE.open("w") as console:
            console.write("sim_join Zoey STEAM_1:0:11\nsim_join Louis STEAM_1:0:12\n")
            while not ENOUGH.exists():
                console.write(f"echo watched line {self.said}\n")
                console.flush()
                self.said += 1
                time.sleep(TALK_SECONDS)

    def query(self) -> None:
        """Ask the game who it is and how many play; record the longest time without an answer."""
        answered_at = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(0.5)
            question = QUERY
            while not ENOUGH.exists():
                asker.sendto(question, ("127.0.0.1", PORT))
                try:
                    answer = asker.recv(4096)
                except OSError:
                    continue
                question = QUERY + (answer[5:9] if answer[4:5] == b"A" else b"")
                self.game_answers += 1
                if answer[4:5] == b"I":
                    # A2S_INFO: the protocol, four texts, two bytes of an app id, then the players.
                    self.players.append(answer.split(b"\0", 4)[4][2])
                silent = time.monotonic() - answered_at
                self.unanswered_seconds = max(self.unanswered_seconds, silent)
                answered_at = time.monotonic()
                time.sleep(QUERY_SECONDS)

    def follow(self) -> None:
        """Follow the console as EventSource does: it reconnects, and sends the id of its last event."""
        after = "0"
        while not self._is_over.is_set():
            try:
                answer = self._browser.ask("GET", f"/servers/alpha/console/events?after={after}")
            except OSError:
                time.sleep(0.2)
                continue
            self.follows += 1
            for raw in answer:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name == "id":
                    after = value
                elif name == "data" and (found := re.search(r"watched line (\d+)", value)):
                    self.seen.append(int(found[1]))
                if self._is_over.is_set():
                    break
            time.sleep(0.2)

    def has_seen_all(self) -> bool:
        return bool(self.seen) and self.seen[-1] == self.said - 1

    def end(self) -> None:
        """Wait a while until the last lines have been seen."""
        until = time.monotonic() + LAST_LINES_SECONDS
        while not self.has_seen_all() and time.monotonic() < until:
            time.sleep(0.1)
        self._is_over.set()


def ask_for_pages() -> tuple[dict[str, int], float]:
    """Request pages until told to stop; return how often each answer came, and the longest wait in seconds."""
    answers: dict[str, int] = {}
    longest = 0.0
    while not ENOUGH.exists():
        for method, path in (
            *(("GET", "/accounts/login/"), ("POST", "/accounts/login/")),
            ("GET", "/livez"),
        ):
            began_at = time.monotonic()
            try:
                answer = Browser().ask(method, path)
                answer.read()
                found = str(answer.status)
            except OSError as error:
                found = repr(error)
            time.sleep(0.02)  # as a crowd does, not as a flood
            key = f"{method} {path} {found}"
            answers[key] = answers.get(key, 0) + 1
            longest = max(longest, time.monotonic() - began_at)
    return answers, longest


def main() -> None:
    """Carry on until told to stop; print what happened."""
    crowd = Crowd(sys.argv[1])
    for work in (crowd.talk, crowd.query, crowd.follow):
        threading.Thread(target=work, daemon=True).start()
    WATCHING.touch()
    answers, longest = ask_for_pages()
    crowd.end()
    print(
        json.dumps(
            {
                "answers": answers,
                "longest_wait_seconds": round(longest, 2),
                "said": crowd.said,
                "seen": crowd.seen,
                "follows": crowd.follows,
                "game_answers": crowd.game_answers,
                "players": crowd.players,
                "unanswered_seconds": round(crowd.unanswered_seconds, 2),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
