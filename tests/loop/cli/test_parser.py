"""The words of the command line."""

from __future__ import annotations

import re

import pytest

from loop.cli import actions, cockpit
from loop.cli.__main__ import main
from loop.cli.parser import OF_A_RUN, make_parser, parse

COMMANDS = {
    "run": actions.run,
    "attach": cockpit.attach,
    "status": actions.show_status,
    "pause": actions.pause,
    "resume": actions.resume,
    "stop": actions.stop,
    "logs": actions.show_log,
    "replay": cockpit.replay,
    "serve": cockpit.serve,
    "report": actions.write_report,
    "finish": actions.finish,
    "import RESULTS.TSV": actions.import_run,
    "noise": actions.measure_noise,
    "model export DIR": actions.export_model,
    "sample TEXT": actions.sample_model,
    "doctor": actions.check_setup,
    "selftest": actions.test_machine,
    "init DIR": actions.make_repository,
    "prepare": actions.prepare,
}


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_has_a_function(words: str) -> None:
    assert make_parser().parse_args(words.split()).action is COMMANDS[words]


def test_no_command_means_the_cockpit() -> None:
    assert make_parser().parse_args(["--budget", "60"]).action is cockpit.attach_or_start


def test_help_lists_every_command_and_hides_what_is_not_for_people() -> None:
    text = make_parser().format_help()
    listed = re.findall(r"^    (\w+) +\S", text, re.MULTILINE)
    assert listed == [words.split()[0] for words in COMMANDS]


@pytest.mark.parametrize("command", OF_A_RUN)
def test_commands_about_a_run_take_its_tag(command: str) -> None:
    words = next(words for words in COMMANDS if words.split()[0] == command)
    assert make_parser().parse_args([*words.split(), "--tag", "t"]).tag == "t"


@pytest.mark.parametrize("line", ["sample 3 text --tokens 5", "sample --tokens 5 3 text"])
def test_flags_stand_before_or_after_the_words_of_a_sample(line: str) -> None:
    found = parse(line.split())
    assert (found.words, found.tokens) == (["3", "text"], 5)


def test_prepare_passes_on_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    found = parse(["prepare", "--data", "climbmix", "--tag", "t", "--shards", "2"])
    assert found.passed_on == ["--data", "climbmix", "--shards", "2"]
    assert parse(["prepare", "--", "--tag", "t"]).passed_on == ["--tag", "t"]
    with pytest.raises(SystemExit):
        parse(["status", "--shards", "2"])
    assert "unrecognized arguments: --shards 2" in capsys.readouterr().err


def test_the_file_of_flags_is_not_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    assert "--headless" in text
    assert "--flags-from" not in text


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["status", "--help"], ["--version"]])
def test_help_and_version(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    assert capsys.readouterr().out
