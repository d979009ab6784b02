"""Bodies: how large, how slow, and how many at a time."""

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any

import pytest

from l4d2site.gate import answers
from l4d2site.gate.answers import RefusedError
from l4d2site.gate.bodies import FREE_BYTES, RETRY_SECONDS, BodyLimits, BoundedBodies, Budget
from l4d2site.gate.entrance import Entrance
from tests.site.gate.asgi import Exchange, make_scope, read_all
from tests.waiting import wait_until

MIB = 1024**2
LIMITS = BodyLimits(most_bytes=3 * MIB, most_bytes_held=16 * MIB, idle_seconds=30, seconds=120)


def behind(bodies: BoundedBodies) -> Entrance:
    return Entrance(bodies, requests_per_address=1000, streams_per_address=10)


def ask(
    exchange: Exchange, scope: dict[str, Any], limits: BodyLimits = LIMITS
) -> Coroutine[Any, Any, None]:
    return exchange.run(behind(BoundedBodies(read_all, limits)), scope)


def run(scope: dict[str, Any], *parts: bytes, limits: BodyLimits = LIMITS) -> Exchange:
    async def scenario() -> Exchange:
        exchange = Exchange(parts)
        exchange.has_left.set()
        await ask(exchange, scope, limits)
        return exchange

    return asyncio.run(scenario())


def test_a_body_up_to_the_limit_passes() -> None:
    parts = [b"x" * MIB] * 3
    assert run(make_scope(content_length=str(3 * MIB)), *parts).sent[1]["body"] == b"%d" % (3 * MIB)
    assert run(make_scope(transfer_encoding="chunked"), *parts).status == 200
    assert run(make_scope()).status == 200


@pytest.mark.parametrize("encoding", ["gzip, chunked", "gzip", "chunked, chunked", "x"])
def test_a_body_that_is_encoded_on_its_way_is_refused_unread(encoding: str) -> None:
    assert run(make_scope(transfer_encoding=encoding), b"x").status == 501


def test_chunks_are_known_in_any_case() -> None:
    assert run(make_scope(transfer_encoding=" Chunked"), b"x").status == 200


def test_one_that_says_it_is_larger_is_refused_before_a_byte_is_read() -> None:
    async def must_not_be_asked(*_: Any) -> None:
        raise AssertionError

    async def scenario() -> Exchange:
        exchange = Exchange([b"x"])
        exchange.has_left.set()
        bodies = BoundedBodies(must_not_be_asked, LIMITS)
        await exchange.run(behind(bodies), make_scope(content_length=str(3 * MIB + 1)))
        return exchange

    exchange = asyncio.run(scenario())
    assert exchange.status == 413
    assert exchange.headers[b"connection"] == b"close"
    assert b"at most 3 MiB" in exchange.sent[1]["body"]


def test_one_that_does_not_say_so_is_refused_when_it_is() -> None:
    exchange = run(make_scope(transfer_encoding="chunked"), *[b"x" * MIB] * 4)
    assert exchange.status == 413
    assert len(exchange.sent) == 2


def test_a_get_carries_none() -> None:
    assert run(make_scope("GET", content_length="5"), b"hello").status == 413
    assert run(make_scope("GET", content_length="0")).status == 200


def test_silence_and_dripping_are_answered_with_408() -> None:
    async def silence() -> Exchange:
        exchange = Exchange([b"x"], is_complete=False)
        limits = BodyLimits(3 * MIB, 16 * MIB, idle_seconds=0.01, seconds=120)
        await asyncio.gather(
            ask(exchange, make_scope(content_length="2"), limits), leave_after_answer(exchange)
        )
        return exchange

    async def dripping() -> Exchange:
        exchange = Exchange([b"x"] * 100_000, is_complete=False)
        limits = BodyLimits(3 * MIB, 16 * MIB, idle_seconds=30, seconds=0.02)
        await asyncio.gather(
            ask(exchange, make_scope(transfer_encoding="chunked"), limits),
            leave_after_answer(exchange),
        )
        return exchange

    for scenario in (silence, dripping):
        exchange = asyncio.run(scenario())
        assert exchange.status == 408
        assert b"did not arrive in time" in exchange.sent[1]["body"]


async def leave_after_answer(exchange: Exchange) -> None:
    await wait_for(lambda: len(exchange.sent) == 2)
    exchange.has_left.set()


async def wait_for(predicate: Any) -> None:
    await asyncio.to_thread(wait_until, predicate, 10, "it did not come about")


def test_the_answer_that_has_begun_is_not_begun_again() -> None:
    async def answers_first(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    async def scenario() -> tuple[Exchange, BaseException | None]:
        exchange = Exchange([b"x" * 4 * MIB])
        bodies = behind(BoundedBodies(answers_first, LIMITS))
        try:
            await exchange.run(bodies, make_scope(transfer_encoding="chunked"))
        except ConnectionAbortedError as error:
            return exchange, error
        return exchange, None

    exchange, error = asyncio.run(scenario())
    assert error
    assert [message["type"] for message in exchange.sent] == ["http.response.start"]


class TestBudget:
    def test_it_is_shared_by_all_and_given_back(self) -> None:
        release = asyncio.Event()

        async def hold(scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["more_body"]:
                pass
            await release.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        async def scenario() -> list[Exchange]:
            bodies = BoundedBodies(hold, LIMITS)
            exchanges = [Exchange([b"x" * 3 * MIB]) for _ in range(6)]
            tasks = []
            for number, exchange in enumerate(exchanges):
                scope = make_scope(content_length=str(3 * MIB))
                scope["client"] = (f"198.51.100.{number}", 1)
                tasks.append(asyncio.create_task(exchange.run(behind(bodies), scope)))
            small = Exchange([b"x" * FREE_BYTES])
            await wait_for(lambda: exchanges[5].status)
            tasks.append(
                asyncio.create_task(
                    small.run(behind(bodies), make_scope(content_length=str(FREE_BYTES)))
                )
            )
            exchanges[5].has_left.set()
            release.set()
            await asyncio.gather(*tasks)
            assert bodies.budget.held == 0
            return [*exchanges, small]

        *large, small = asyncio.run(scenario())
        assert [exchange.status for exchange in large] == [200] * 5 + [503]
        assert large[5].headers[b"retry-after"] == b"%d" % RETRY_SECONDS
        assert small.status == 200

    def test_no_address_takes_it_all(self) -> None:
        budget = Budget(16 * MIB)
        budget.take("mallory", 4 * MIB)
        exchange = Exchange()

        async def takes_more(*_: Any) -> None:
            budget.take("mallory", 1)

        exchange.has_left.set()
        asyncio.run(exchange.run(behind(BoundedBodies(takes_more, LIMITS)), make_scope()))
        assert exchange.status == 429
        budget.take("alice", 4 * MIB)
        assert budget.held == 8 * MIB


def test_a_client_that_never_stops_sending_is_left_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "LINGER_SECONDS", 0.05)
    exchange = Exchange([b"x" * MIB] * 50)

    async def scenario() -> None:
        await exchange.run(
            behind(BoundedBodies(read_all, LIMITS)), make_scope(transfer_encoding="chunked")
        )

    asyncio.run(scenario())
    assert exchange.status == 413
    # 3 MiB and one byte too many, and then as much as is read so that the client notices.
    assert exchange.parts_left == 50 - 4 - answers.LINGER_BYTES // MIB


def test_a_refusal_ends_in_time_even_if_a_cancellation_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "LINGER_SECONDS", 0.05)
    cancellations = parts = 0

    async def receive() -> dict[str, Any]:
        """Yield a part just as a cancellation comes, as wait_for may, and then one after another."""
        nonlocal cancellations, parts
        parts += 1
        assert parts < 100, "it goes on after its time"
        try:
            await asyncio.sleep(10 if parts == 1 else 0.01)
        except asyncio.CancelledError:
            cancellations += 1
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(_message: object) -> None:
        pass

    refusal = RefusedError(HTTPStatus.LOCKED, "Wait.", ends_connection=True)
    asyncio.run(answers.send_refusal(refusal, make_scope(), receive, send))
    assert cancellations == 1
