"""`aggregator help` and `aggregator completion`: the pages by topic, and what shells complete."""

import asyncio
import os
import pty
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from aggregator import cli, config, handbook

ROOT = Path(__file__).parents[1]
BIN = sysconfig.get_path("scripts")
PAGES = {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.md")}


@pytest.fixture(scope="module")
def topics():
    """Return all topics of the pages."""
    return handbook.topics()


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Return a function that makes this text the only page, `page.md`."""
    monkeypatch.setattr(handbook, "shipped", lambda folder: tmp_path)
    return (tmp_path / "page.md").write_text


def shown(*args):
    """Call `aggregator help` in this process, with no terminal."""
    return CliRunner().invoke(cli.main, ["help", *args])


# Topics.


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_a_topic(name):
    """Shown as it is, with all that is in it, and with other places of that name at most."""
    text, _, also = shown(name).output.partition("\n\nSee also: ")
    assert text.strip() == PAGES[name].strip()
    assert not also or f"/{name}`" in also


@pytest.mark.parametrize("name", PAGES)
def test_each_heading_is_a_topic(topics, name):
    """With its page before it there is no doubt which one, but for twins on one page."""
    prose = re.sub(r"^```.*?^```$", "", PAGES[name], flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ .+$", prose, re.MULTILINE)
    of_page = [topic for topic in topics if topic.page == name]
    assert [topic.text.partition("\n")[0] for topic in of_page] == headings
    for topic in of_page:
        assert re.fullmatch(r"[\w-]+(/[\w-]+)?", topic.path)
        assert topic in handbook.find(topic.path, topics)
        assert topic.text in PAGES[name]


@pytest.mark.parametrize("name", [*handbook.OFTEN, *handbook.ALSO])
def test_what_people_look_for_is_there(topics, name):
    """Each name that is listed, or that stands for another one, leads somewhere."""
    assert handbook.find(name, topics)
    assert shown(name).exit_code == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("configuration", "`flush_window_s`"),
        ("channels", "`binance_orderbook`"),
        ("limits", "`server.max_connections`"),
        ("exit-codes", "| 78 |"),
        ("signals", "| SIGHUP |"),
        ("files", "`/etc/aggregator/aggregator.toml`"),
        ("credentials", "| `ops_token` |"),
        ("LIMITS", "`server.max_connections`"),
        ("protocol/limits", "## Limits"),
        ("post-publish", "### POST /publish"),
    ],
)
def test_topics_say_what_one_looks_for(name, words):
    """And not the whole page."""
    result = shown(name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert words in result.stdout
    assert len(result.stdout) < max(map(len, PAGES.values())) / 2


def test_a_topic_ends_where_the_next_begins(page):
    """Deeper headings belong to it; what looks like one in a block of code is none."""
    block = "```sh\n# no heading\n```\n"
    text = f"# The page\n\n## One\n\na\n\n### Under\n\n{block}\n## Two: `x.py`\n\nb\n\n#### Deep\n"
    page(text)
    found = {topic.path: topic.text for topic in handbook.topics()}
    assert found == {
        "page": text.rstrip(),
        "page/one": f"## One\n\na\n\n### Under\n\n{block}".rstrip(),
        "page/under": f"### Under\n\n{block}".rstrip(),
        "page/two": "## Two: `x.py`\n\nb\n\n#### Deep",
        "page/deep": "#### Deep",
    }
    assert [t.path for t in handbook.mentions("no-heading", handbook.topics())] == ["page/under"]


def test_other_places_of_the_name_are_said(topics):
    """The page for operators goes first, and a page before a section."""
    paths = [topic.path for topic in handbook.find("limits", topics)]
    assert paths[0] == "operations/limits"
    assert "protocol/limits" in paths
    *_, last = shown("limits").stdout.splitlines()
    assert last.startswith("See also: `aggregator help ")
    assert "`aggregator help protocol/limits`" in last
    assert handbook.find("accounts", topics)[0].level == 1


def test_without_a_topic_all_are_listed(topics):
    """The pages with their titles and sections, and what most look for."""
    result = shown()
    assert result.exit_code == 0
    for topic in topics:
        if topic.level == 1:
            assert f"\n{topic.page}: {topic.text.partition(chr(10))[0][2:]}\n" in result.stdout
        if topic.level == 2:
            assert re.search(rf"(?<!\S){topic.name}(?!\S)", result.stdout)
    assert "  ".join(handbook.OFTEN) in result.stdout


def test_a_command_is_no_topic_but_has_help():
    """That of `aggregator COMMAND --help`."""
    result = shown("rotate")
    assert result.exit_code == 0
    assert result.stdout == CliRunner().invoke(cli.main, ["rotate", "--help"]).stdout


def test_what_is_no_topic_is_a_usage_error():
    """It says where the words are, if they are anywhere."""
    result = shown("max-connections")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no topic 'max-connections'; it is mentioned in: operations/" in result.stderr
    result = shown("xyzzy")
    assert result.exit_code == 2
    assert "there is no topic 'xyzzy'; `aggregator help` lists them" in result.stderr


def test_on_a_terminal_nothing_is_cut_off():
    """It is laid out for its width, and goes through the pager; long words are broken."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PAGER": "sed s/^/paged:/", "COLUMNS": "60", "TERM": "xterm"}
    command = [sys.executable, "-m", "aggregator", "help", "operations/limits"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environ) as process:
        os.close(theirs)
        text = read_all(ours)
    assert process.returncode == 0
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.splitlines()]
    assert all(line.startswith("paged:") for line in lines)
    assert max(map(len, lines)) <= len("paged:") + 60
    assert "…" not in text
    assert "|---|" not in text


def read_all(descriptor):
    """Return what comes from a terminal until nobody writes to it any more."""
    parts = []
    try:
        while part := os.read(descriptor, 65_536):
            parts.append(part)
    except OSError:
        pass  # how Linux says that it is the end
    finally:
        os.close(descriptor)
    return b"".join(parts).decode()


# Completion.


@pytest.fixture
def complete(tmp_path):
    """Return a function that gives what a real bash completes after these words."""
    script = """
        eval "$(aggregator completion bash)"
        complete -p aggregator >&2
        COMP_WORDS=(aggregator "$@")
        COMP_CWORD=$#
        _aggregator_completion aggregator
        printf '%s\\n' "${COMPREPLY[@]}"
    """

    def complete(*words):
        environ = {"PATH": f"{BIN}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        command = ["bash", "--norc", "-c", script, "bash", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
        )
        assert "-F _aggregator_completion aggregator" in done.stderr
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["comp"], ["completion"]),
        (["check"], ["check-config"]),
        (["init", "--"], ["--units", "--force", "--help"]),
        (["run", "--log-level", "w"], ["warning"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["help", "exit"], ["exit-codes"]),
        (["help", "protocol/lim"], ["protocol/limits"]),
        (["token", "cr"], ["create"]),
    ],
)
def test_bash_completes(complete, words, expected):
    """Commands, options, their values and topics."""
    assert complete(*words) == expected


@pytest.fixture
async def daemon():
    """Serve `/channels` as a daemon does; give the address."""

    async def channels(request):
        names = [*config.STANDARD_FEEDS, "system"]
        return web.json_response({"channels": [{"channel": name} for name in names]})

    application = web.Application()
    application.router.add_get("/channels", channels)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("command", ["why", "rotate", "watch"])
async def test_channels_are_completed(daemon, command):
    """Those of the daemon that the line names."""
    found = await completed(command, "--url", daemon, incomplete="coingecko_t")
    assert found == ["coingecko_top", "coingecko_trending"]
    assert await completed(command, "--url", daemon, incomplete="nothing") == []


async def test_without_a_daemon_there_is_nothing_to_complete():
    """And nothing is said, which would stand in the middle of the line."""
    assert await completed("why", "--url", "http://127.0.0.1:9", incomplete="b") == []


async def completed(*words, incomplete):
    """Return what the program answers to a bash that asks."""
    process = await asyncio.create_subprocess_exec(
        Path(BIN) / "aggregator",
        env={
            **os.environ,
            "_AGGREGATOR_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["aggregator", *words, incomplete]),
            "COMP_CWORD": str(len(words) + 1),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    assert complaint == b""
    return [line.rpartition(",")[2] for line in said.decode().split()]


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", "complete -o nosort -F _aggregator_completion aggregator"),
        ("zsh", "#compdef aggregator"),
        ("fish", "complete --no-files --command aggregator"),
    ],
)
def test_each_shell_has_its_script(run_cli, shell, words):
    """It asks the program in the words that this shell understands."""
    result = run_cli("completion", shell)
    assert (result.returncode, result.stderr) == (0, "")
    assert words in result.stdout
    assert f"_AGGREGATOR_COMPLETE={shell}_complete" in result.stdout
    environ = {"_AGGREGATOR_COMPLETE": f"{shell}_complete", "COMP_WORDS": "aggregator comp"}
    environ["COMP_CWORD"] = "comp" if shell == "fish" else "1"
    answer = run_cli(environ=environ)
    assert answer.returncode == 0
    assert "completion" in answer.stdout


def test_other_shells_are_refused(run_cli):
    """As a usage error."""
    result = run_cli("completion", "tcsh")
    assert result.returncode == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in result.stderr
