"""The process that speaks with Ray: its frames, and what it makes of Ray's errors."""

from __future__ import annotations

import asyncio
import socket

import pytest

from loop.training.ray import helper
from loop.training.ray.helper import Failed


async def test_frames_carry_an_object_and_bytes() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(helper.encode({"id": 1, "op": "news"}) + helper.encode({"id": 2}, b"\0log\n"))
    reader.feed_eof()
    assert await helper.read_frame(reader) == ({"id": 1, "op": "news"}, b"")
    assert await helper.read_frame(reader) == ({"id": 2}, b"\0log\n")
    with pytest.raises(asyncio.IncompleteReadError):
        await helper.read_frame(reader)


def test_files_of_an_order_arrive_as_they_were_sent() -> None:
    assert helper._cut(b"abcde", {"one": 2, "none": 0, "two": 3}) == {
        "one": b"ab",
        "none": b"",
        "two": b"cde",
    }


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", "a/b:1"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(Failed, match="must be HOST:PORT or auto"):
        helper._probe(address)


def test_a_head_that_does_not_listen_is_noticed_before_ray_waits_for_it() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Failed, match="Connection refused"):
            helper._probe(address)
        unused.listen()
        helper._probe(address)


def test_without_a_cluster_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "NOTED_IN", "ray/none")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(Failed, match="no Ray cluster is known here"):
        helper._local_address()
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert helper._local_address() == "head:6379"


MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.55.0
    Python: 3.12.1
This process on node 1 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError(MISMATCH),
            "set `ray_python` to one that is (The cluster was started with: Ray: 2.55.0",
        ),
        (
            ConnectionError("RPC error: InvalidAuthToken: missing"),
            "does not take our token: set RAY_AUTH_MODE",
        ),
        (RuntimeError("No node info found matching attributes"), "`ray start --address=head:1 --num-gpus=0`"),
        (ValueError("something\nelse"), "cannot use the Ray cluster at head:1: ValueError: something else"),
    ],
)
def test_an_error_of_ray_becomes_a_sentence_that_says_what_to_do(error: Exception, said: str) -> None:
    sentence = helper._sentence(error, "head:1")
    assert said in sentence
    assert "\n" not in sentence


def test_the_cause_of_an_error_counts_too() -> None:
    error = ConnectionError("Failed to connect")
    error.__cause__ = RuntimeError("ray.exceptions.AuthenticationError: no token")
    assert "does not take our token" in helper._sentence(error, "head:1")
