"""The command line passes on what was typed, and turns errors into one line and an exit code."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest

import netweight
from contracts.cost import processor_s
from netweight import errors, verbs
from netweight.cli import main
from netweight.cli._app import VERBS
from netweight.jobs import doctor


@pytest.fixture
def calls(monkeypatch):
    """What each verb was called with, instead of doing it."""
    seen = []
    for name in VERBS:
        monkeypatch.setattr(verbs, name, _recorder(getattr(verbs, name), seen))
    return seen


def _recorder(verb, seen):
    @functools.wraps(verb)
    def record(**values):
        seen.append((verb.__name__, {name: value for name, value in values.items() if name != "progress"}))

    return record


def _failing(monkeypatch, error: BaseException, *, verb: str = "verify"):
    @functools.wraps(getattr(verbs, verb))
    def fail(**values):
        raise error

    monkeypatch.setattr(verbs, verb, fail)


def test_a_verb_gets_what_was_typed(calls):
    assert main(["compress", "model.gguf", "r.toml", "--out", "d", "--dry-run", "--threads", "2"]) == 0
    want = {"model": "model.gguf", "recipe": "r.toml", "out": "d"}
    assert calls == [("compress", want | {"dry_run": True, "allow_partial": False, "threads": 2, "memory": "lean"})]


def test_several_artifacts_become_a_list_and_defaults_are_the_verbs(calls):
    assert main(["evaluate", "a", "b", "--against", "m", "--preset", "quick"]) == 0
    (_, values) = calls[0]
    assert values["artifacts"] == ["a", "b"] and values["against"] == "m" and values["preset"] == "quick"
    assert values["out"] is None and values["batch_size"] == 8


def test_options_that_take_several_are_separated_by_commas(calls):
    main(["weigh", "m", "--formats", "nf4, mxfp4"])
    main(["weigh", "m"])
    assert [values["formats"] for _, values in calls] == [("nf4", "mxfp4"), ("int4-g64", "int3-g64", "nvfp4")]


def test_what_a_verb_tells_of_its_progress_is_shown_on_stderr(monkeypatch, capsys):
    @functools.wraps(verbs.compress)
    def compress(*, progress, **values):
        progress("compress", 1, 2, "first block")

    monkeypatch.setattr(verbs, "compress", compress)
    assert main(["compress", "m", "r", "--out", "d"]) == 0
    assert capsys.readouterr() == ("", "compress 1/2 (first block)\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ModelError("no such file: x"), 2),
        (errors.PartialError("two layers were left undone"), 3),
        (errors.EvidenceError("perplexity does not hold"), 4),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_code(monkeypatch, capsys, error, code):
    _failing(monkeypatch, error)
    assert main(["verify", "d"]) == code
    assert capsys.readouterr() == ("", f"error: {error}\n")


def test_traceback_shows_where_an_error_arose(monkeypatch):
    _failing(monkeypatch, errors.ModelError("no"))
    with pytest.raises(errors.ModelError):
        main(["verify", "d", "--traceback"])


def test_a_mistake_of_ours_is_not_dressed_up_as_the_users(monkeypatch):
    _failing(monkeypatch, ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        main(["verify", "d"])


def test_an_interruption_says_how_to_resume(monkeypatch, capsys):
    _failing(monkeypatch, KeyboardInterrupt())
    assert main(["verify", "d"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    _failing(monkeypatch, KeyboardInterrupt(), verb="compress")
    assert main(["compress", "m", "r.toml", "--out", "d"]) == 130
    assert "resume by running the same command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compres", "m"], "Did you mean 'compress'?"),
        (["compress", "m", "r"], "'--out'"),
        (["compress", "m", "r", "--outt", "d"], "--out"),
        (["evaluate"], "artifacts"),
        (["evaluate", "d", "--preset", "qick"], "'quick'"),
        (["run", "d", "--prompt", "x", "--seed", "one"], "--seed"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_helps(capsys, words, said):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and said in err


def test_without_words_there_is_help(capsys):
    assert main([]) == 0
    assert "compress" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(capsys, verb):
    assert main([verb, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_the_list_of_verbs_cuts_no_sentence_short(capsys):
    main(["--help"])
    assert "..." not in capsys.readouterr().out.split("Commands:")[1]


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"netweight {netweight.__version__}\n"


def test_doctor_exits_with_one_when_there_are_problems(monkeypatch, capsys):
    bad = doctor.Finding("torch", "problem", "not installed", "install it")
    monkeypatch.setattr(doctor, "doctor", lambda *, json: doctor.Checkup((bad,)))
    assert main(["doctor"]) == 1
    assert "install it" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 1
    assert capsys.readouterr().out == doctor.Checkup((bad,)).to_json() + "\n"


def test_a_reader_that_goes_away_is_not_an_error():
    code = "import sys\nfrom netweight.cli import main\nsys.exit(main(['doctor']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (1, 141)  # rich notices a broken pipe itself, with 1


def test_the_module_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "netweight", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("netweight ")


def test_help_comes_at_once():
    # Seconds; the best of five, as other work on the machine only ever adds. Most of it is typer and rich themselves.
    assert processor_s("-m", "netweight", "compress", "--help", repetitions=5)[0] < 0.5
