"""The types of journal and wire: every one of them survives its way through JSON."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev

EVENTS = get_args(ev.AnyEvent)
COMMANDS = get_args(ev.AnyCommand)


def subclasses(kind: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    found: set[type[msgspec.Struct]] = set()
    for child in kind.__subclasses__():
        found |= {child, *subclasses(child)}
    return found


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type that JSON can hold."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.name: values(field.type) for field in msgspec.structs.fields(kind)}
        return st.fixed_dictionaries(fields).map(lambda given: kind(**given))
    simple = {
        str: st.text(max_size=8),
        int: st.integers(-(2**60), 2**60),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
    }
    return simple[kind]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
@given(data=st.data(), seq=st.integers(0, 10**9), t=st.floats(0, 1e10))
def test_an_event_is_the_same_after_its_way_through_the_journal(
    kind: type[ev.Event], data: st.DataObject, seq: int, t: float
) -> None:
    record = ev.Record(seq, t, data.draw(values(kind)))
    line = ev.encode(record)
    assert b"\n" not in line
    assert ev.decode_record(line) == record


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
@given(data=st.data(), number=st.integers(0, 10**9))
def test_a_command_is_the_same_after_its_way_to_the_engine(
    kind: type[ev.Command], data: st.DataObject, number: int
) -> None:
    request = ev.Request(number, data.draw(values(kind)))
    assert ev.decode_request(ev.encode(request)) == request


@given(values(ev.Reply))
def test_a_reply_is_the_same_after_its_way_to_the_client(reply: ev.Reply) -> None:
    assert msgspec.json.decode(ev.encode(reply), type=ev.Reply) == reply


def test_no_event_and_no_command_is_left_out_of_what_can_be_sent() -> None:
    assert subclasses(ev.Event) - {ev.Live} == set(EVENTS)
    assert subclasses(ev.Command) == set(COMMANDS)
    assert {kind for kind in EVENTS if issubclass(kind, ev.Live)} == set(get_args(ev.LiveEvent))


def test_the_name_of_an_event_in_the_journal_is_that_of_its_class() -> None:
    for kind in EVENTS:
        assert msgspec.inspect.type_info(kind).tag == kind.__name__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("one", "other", "dollars"), [(0.5, 0.25, 0.75), (0.5, None, 0.5), (None, 0.25, 0.25), (None, None, None)]
)
def test_what_proposals_cost_adds_up_where_a_price_is_known(
    one: float | None, other: float | None, dollars: float | None
) -> None:
    total = ev.Usage(1, 2, 3, 4, one, 5.0) + ev.Usage(10, 20, 30, 40, other, 50.0)
    assert total == ev.Usage(11, 22, 33, 44, dollars, 55.0)


def test_a_field_of_a_later_version_is_passed_over() -> None:
    line = b'{"type":"record","seq":1,"t":0,"event":{"type":"Logged","n":1,"later":[1]}}'
    assert ev.decode_record(line) == ev.Record(1, 0.0, ev.Logged(1))


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"record","seq":1,"t":0,"event":{"type":"FromTheFuture"}}',
        b'{"type":"record","seq":1,"t":0,"event":{"type":"Logged","n":"one"}}',
        b'{"type":"record","seq":1,"t":0,"event":{"type":"Logged"}}',
    ],
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        ev.decode_record(line)
