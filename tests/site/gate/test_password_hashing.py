"""Password hashes: two at a time, a queue with an end, and old hashes that keep working."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import LazySettings
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import PBKDF2PasswordHasher, check_password, make_password
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client
from django.urls import reverse

from l4d2site.gate import password_hashing
from l4d2site.gate.password_hashing import (
    HASHES_AT_ONCE,
    MOST_WAITING,
    NICENESS,
    HashThreads,
    TooManyHashesError,
    hash_threads,
)
from l4d2site.settings import PASSWORD_HASHERS
from tests.waiting import wait_until


@pytest.fixture
def product_hashers(settings: LazySettings) -> None:
    """Hash as the product does; the other tests hash fast."""
    settings.PASSWORD_HASHERS = PASSWORD_HASHERS


@pytest.fixture
def threads() -> Iterator[HashThreads]:
    threads = HashThreads()
    yield threads
    threads.end()


def test_two_are_made_at_a_time_eight_wait_and_more_are_refused(threads: HashThreads) -> None:
    release, begun = threading.Event(), threading.Semaphore(0)
    making: list[int] = []

    def make() -> int:
        making.append(threading.get_ident())
        begun.release()
        release.wait(10)
        return len(making)

    with ThreadPoolExecutor(20) as askers:
        asked = [askers.submit(threads.run, make) for _ in range(HASHES_AT_ONCE + MOST_WAITING)]
        for _ in range(HASHES_AT_ONCE):
            assert begun.acquire(timeout=10)
        wait_until(lambda: threads._unfinished == 10, 10, "not all have asked")
        with pytest.raises(TooManyHashesError):
            threads.run(make)
        assert len(making) == HASHES_AT_ONCE
        release.set()
        assert all(one.result(10) for one in asked)
    assert len(set(making)) == HASHES_AT_ONCE
    assert threads.run(lambda: "free again") == "free again"


def test_a_fault_frees_its_place(threads: HashThreads) -> None:
    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            threads.run(lambda: 1 // 0)


def test_the_threads_yield_to_others_and_the_process_does_not(threads: HashThreads) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert threads.run(lambda: os.getpriority(os.PRIO_PROCESS, 0)) == before + NICENESS
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_they_end_when_asked_to_and_come_back(threads: HashThreads) -> None:
    before = set(threading.enumerate())
    threads.run(int)
    assert set(threading.enumerate()) > before
    threads.end()
    assert set(threading.enumerate()) == before
    assert threads.run(int) == 0


@pytest.mark.usefixtures("product_hashers")
class TestHashers:
    def test_a_new_hash_is_argon2id(self) -> None:
        encoded = make_password("a password")
        assert encoded.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
        assert check_password("a password", encoded)
        assert not check_password("another", encoded)

    def test_an_old_hash_works_and_is_renewed_at_sign_in(self, alice: User) -> None:
        User.objects.update(password=PBKDF2PasswordHasher().encode("alice-password", "salt", 1000))
        assert authenticate(None, username="alice", password="wrong") is None
        assert authenticate(None, username="alice", password="alice-password") == alice
        alice.refresh_from_db()
        assert alice.password.startswith("argon2$")
        assert authenticate(None, username="alice", password="alice-password") == alice

    def test_all_of_them_are_made_in_the_threads(
        self, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = PBKDF2PasswordHasher().encode("alice-password", "salt", 1000)
        new = make_password("alice-password")
        monkeypatch.setattr(password_hashing, "MOST_WAITING", -HASHES_AT_ONCE)
        request = HttpRequest()
        for encoded in (old, new):
            User.objects.update(password=encoded)
            with pytest.raises(TooManyHashesError):
                authenticate(request, username="alice", password="alice-password")
        with pytest.raises(TooManyHashesError):
            authenticate(request, username="nobody", password="x")
        with pytest.raises(TooManyHashesError):
            make_password("x")

    def test_a_name_that_nobody_has_costs_one_hash_too(
        self, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        User.objects.update(password=make_password("alice-password"))
        hashed: list[object] = []
        run = hash_threads.run

        def count(make: object, *args: object) -> object:
            hashed.append(make)
            return run(make, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(hash_threads, "run", count)
        for name in ("alice", "nobody"):
            hashed.clear()
            assert authenticate(None, username=name, password="wrong") is None
            assert len(hashed) == 1

    def test_any_page_answers_429_when_the_line_is_full(
        self, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = Client()
        client.force_login(alice)
        User.objects.filter(pk=alice.pk).update(password=make_password("alice-password"))
        client.force_login(User.objects.get(pk=alice.pk))
        monkeypatch.setattr(password_hashing, "MOST_WAITING", -HASHES_AT_ONCE)
        for path, form in (
            (reverse("password_change"), {"old_password": "alice-password"}),
            ("/accounts/login/", {"username": "nobody", "password": "x"}),
        ):
            response = (Client() if "login" in path else client).post(path, form)
            assert response.status_code == 429
            assert int(response["Retry-After"]) > 0
            assert "Try again" in response.content.decode()
            assert response["Content-Type"].startswith("text/plain")
        response = Client(headers={"accept": "text/html"}).post(path, form)
        assert (response.status_code, response["Content-Type"]) == (429, "text/html; charset=utf-8")
        assert "style-src 'sha256-" in response["Content-Security-Policy"]
