"""The log: its forms, and that nobody else writes in it."""

import io
import logging
import os
import re

import pytest

from aggregator.telemetry import logs


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def as_before():
    """Leave the logging of the process as it was."""
    root, scheduler = logging.getLogger(), logging.getLogger("apscheduler")
    before = root.level, root.handlers[:], scheduler.level
    # Or `basicConfig` would close what pytest listens with.
    root.handlers[:] = []
    yield
    root.level, root.handlers[:], scheduler.level = before


def logged(stream, *args, level="info", environ=None, write=None, **kwargs):
    """Return what stands in the stream after one warning."""
    logs.set_up(level, stream, environ or {})
    (write or logging.getLogger("aggregator.some").warning)(*args, **kwargs)
    return stream.getvalue()


def test_on_a_terminal_a_line_is_for_a_person():
    """Time and text; the level where it is not the usual one."""
    text = logged(Terminal(), "feed %s live", "btc", write=logging.getLogger("x").info)
    assert re.fullmatch(r"\d\d:\d\d:\d\d feed btc live\n", text)
    text = logged(Terminal(), "feed btc stale")
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning: feed btc stale\n", text)


def test_elsewhere_a_line_is_for_a_program():
    """With time, level and logger as logfmt."""
    text = logged(io.StringIO(), 'said "no" \\ to %d', 5)
    pattern = r'time=(\S+) level=warning logger=aggregator\.some msg="said \\"no\\" \\\\ to 5"\n'
    assert re.fullmatch(pattern, text)
    assert re.fullmatch(pattern, text)[1].endswith("Z")


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)],
)
def test_under_systemd_a_line_begins_with_its_priority(tmp_path, level, priority):
    """The stream is the one that systemd says it reads."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        logs.set_up("debug", stream, environ)
        getattr(logging.getLogger("x"), level)("text")
    assert path.read_text() == f'<{priority}>level={level} logger=x msg="text"\n'


def test_an_inherited_variable_is_not_taken_for_systemd(tmp_path):
    """A terminal that a service of the desktop started has the variable of that service."""
    environ = {"JOURNAL_STREAM": "1:2"}
    assert logged(io.StringIO(), "text", environ=environ).startswith("time=")
    assert not logged(Terminal(), "text", environ=environ).startswith("<")
    with (tmp_path / "log").open("w") as stream:
        logs.set_up("info", stream, environ)
        logging.getLogger("x").info("text")
    assert (tmp_path / "log").read_text().startswith("time=")


ATTACKS = ["\x1b[2J", "a\nlevel=critical forged", "a\r\nb", "\x00", "\u2028", "\x9b31m", "\u202e"]


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_others_said_is_one_printable_line(stream, attack):
    """A venue or a client can neither forge a line nor move the cursor."""
    text = logged(stream(), "the venue said: %s", attack)
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nor_can_the_text_of_an_exception(stream, attack):
    """A traceback has its lines, indented for a person, all in one for a program."""
    try:
        raise ValueError(attack)
    except ValueError:
        text = logged(stream(), "failed", exc_info=True)
    first, *rest = text.rstrip("\n").split("\n")
    assert all(line.isprintable() for line in (first, *rest))
    assert all(line.startswith("    ") for line in rest)
    assert bool(rest) is (stream is Terminal)
    assert "Traceback" in text
    assert "ValueError" in text


def test_the_level_is_kept():
    """And the scheduler, which tells of each run, says only errors."""
    info, debug = logging.getLogger("x").info, logging.getLogger("x").debug
    assert logged(io.StringIO(), "text", write=info, level="warning") == ""
    assert logged(io.StringIO(), "text", write=debug, level="debug") != ""
    write = logging.getLogger("apscheduler.executors.default").warning
    assert logged(io.StringIO(), "text", write=write, level="debug") == ""


def test_the_log_goes_to_standard_error(capsys):
    """Where nothing else is said."""
    logs.set_up("info")
    logging.getLogger("x").error("text")
    assert 'level=error logger=x msg="text"' in capsys.readouterr().err


def test_no_secret_in_a_line():
    """What let a key slip in, a venue's words or a traceback, does not bring it into the log."""
    stream = io.StringIO()
    logs.set_up(stream=stream, environ={}, secrets=["CGSECRETKEY"])
    try:
        raise ValueError("CGSECRETKEY in a value")
    except ValueError:
        logging.getLogger("aggregator.x").exception("venue says %s", "key CGSECRETKEY")
    assert "venue says key ********" in stream.getvalue()
    assert "SECRET" not in stream.getvalue()


def test_what_is_said_before_there_is_a_log_has_a_priority_too(tmp_path, monkeypatch):
    """Under systemd, on each line; elsewhere it is what it is."""
    with (tmp_path / "journal").open("w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert logs.told("one\ntwo", logging.ERROR, environ) == "<3>one\n<3>two"
        assert logs.told("one\ntwo", logging.ERROR, {}) == "one\ntwo"
