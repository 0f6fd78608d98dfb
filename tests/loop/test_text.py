"""Text from outside is safe to show, to write and to send on."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import text

ODD = st.sampled_from(
    [
        "\x1b[31m", "\x1b]0;title\x07", "\r", "\r\n", "\u202e", "\u2028", "\0", "\t", "\ud800",
        "a\u0301\u0302\u20dd" * 3, "\u0301" * 9, "\u3164",
    ]
)  # fmt: skip


@given(st.lists(st.text(max_size=5) | ODD, max_size=8).map("".join))
def test_clean_text_has_nothing_that_steers_a_terminal(dirty: str) -> None:
    cleaned = text.clean(dirty)
    odd = ("Cc", "Cf", "Cs", "Zl", "Zp")
    assert all(c in "\n\t" or unicodedata.category(c) not in odd for c in cleaned)
    assert text.clean(cleaned) == cleaned


PLAIN = st.characters(
    categories=["L", "N", "P", "S", "Zs"], include_characters="\n\t\u0301", exclude_characters=text._FILLERS
)


@given(st.text(alphabet=PLAIN).filter(lambda t: "\u0301" * 5 not in t))
def test_what_is_harmless_stays_as_it_is(harmless: str) -> None:
    assert text.clean(harmless) == harmless


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "link"),
        ("50%\r100%\r\ndone", "50%\n100%\ndone"),
        ("a\u202eb\u200bc\x00d", "abcd"),
        ("三つ\u2028🙂", "三つ🙂"),
        ("\x1bMup", "up"),
        ("e" + "\u0301" * 900 + "!", "e" + "\u0301" * 4 + "!"),
        ("x" + "\u0301\u0489" * 500, "x" + "\u0301\u0489" * 2),
        ("\u3164" * 400 + "a\uffa0", "a"),
    ],
)
def test_what_is_left_out(dirty: str, cleaned: str) -> None:
    assert text.clean(dirty) == cleaned


def test_the_tail_of_a_log_has_few_and_short_lines() -> None:
    log = "\n".join([*(f"line {i}" for i in range(100)), "x" * 900])
    assert text.tail(log, 3).split("\n") == ["line 98", "line 99", "x" * 500]
    assert len(text.tail(log).split("\n")) == 50
    assert text.tail("") == ""


def test_secrets_are_replaced_and_an_empty_one_does_nothing() -> None:
    assert text.without("key abc, token abcdef", ("abcdef", "abc", "")) == "key [key], token [key]"


def test_secrets_are_left_out_however_they_are_shortened() -> None:
    said = text.redact("key sk-abc123def456 or sk-ab***f456\n or hunter22 is wrong", ("hunter22",))
    assert said == "key [key] or [key] or [key] is wrong"


def test_an_error_is_one_short_line() -> None:
    assert text.redact("a\x1b[31m\n\n  b\t" + "c" * 500, ()) == "a b " + "c" * 296


@pytest.mark.parametrize(
    "variable",
    [
        "ANTHROPIC_API_KEY", "OPENAI_API_KEYS", "HF_TOKEN", "GITHUB_TOKENS", "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID", "DB_PASSWORD", "GOOGLE_APPLICATION_CREDENTIALS", "my_api_key",
        "AUTORESEARCH_NOTIFY",
    ],
)  # fmt: skip
def test_names_of_secrets(variable: str) -> None:
    assert text.names_a_secret(variable)


@pytest.mark.parametrize(
    "variable", ["PATH", "HOME", "AUTORESEARCH_BUDGET_S", "CUDA_VISIBLE_DEVICES", "LANG", ""]
)
def test_names_of_what_is_no_secret(variable: str) -> None:
    assert not text.names_a_secret(variable)


@pytest.mark.parametrize(
    ("value", "found", "shown"),
    [
        ("https://me:pass@word@host/a", ["me:pass@word"], "https://host/a"),
        (
            "a postgresql://me:pw@host and redis://:pw@host",
            ["me:pw", ":pw"],
            "a postgresql://host and redis://host",
        ),
        ("https://token@host", [], "https://host"),
        ("http://127.0.0.1:5000/a@b:c@d", [], "http://127.0.0.1:5000/a@b:c@d"),
        ("sqlite:////home/me@work/x:y@z.db", [], "sqlite:////home/me@work/x:y@z.db"),
        ('{"url": "http://host", "mail": "a:b@c"}', [], '{"url": "http://host", "mail": "a:b@c"}'),
    ],
)
def test_passwords_in_addresses(value: str, found: list[str], shown: str) -> None:
    assert text.logins(value) == found
    assert text.without_logins(value) == shown
    assert text.is_secret("MLFLOW_TRACKING_URI", value) == bool(found)
    assert text.is_secret("A_KEY", value)
    assert not text.is_secret("https_proxy", value)


def test_counted() -> None:
    assert [text.counted(n, "training") for n in (0, 1, 2)] == ["0 trainings", "1 training", "2 trainings"]
    assert text.counted(1200, "crash") == "1,200 crashes"
