"""docs/client.md: its programs run, and its tables have what there is."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from client.daemons import PATIENCE_S

import aggregator.client
from aggregator.client import Options, errors
from aggregator.client.buffer import KINDS, REASON
from aggregator.client.callbacks import NAMES
from aggregator.client.sequence import REASON as HOLE

PAGE = (Path(__file__).parents[2] / "docs/client.md").read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CONFIG = """
[server]
port = 0
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
[feeds.ethprice]
connector = "okx.ticker"
instruments = ["ETH/USDT"]
[feeds.okx_books]
connector = "okx.books"
instruments = ["BTC/USDT"]
"""
TABLES = any(importlib.util.find_spec(name) for name in ("pandas", "polars"))


def rows(title):
    """Return the cells of the table whose first column has this title."""
    lines = iter(PAGE.splitlines())
    for line in lines:
        if line.startswith(f"| {title} |"):
            next(lines)
            break
    found = []
    for line in lines:
        if not line.startswith("|"):
            return found
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    raise AssertionError(title)


def names(title):
    return [row[0].strip("`") for row in rows(title)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.split("\n")[-2].strip()[:40])
async def test_each_program_runs(start, tmp_path, program):
    """As written but for the port, until it has printed some lines."""
    (tmp_path / "aggregator.toml").write_text(CONFIG)
    daemon = await start("demo", "--config", "aggregator.toml")
    url = await daemon.url()
    await daemon.logged(r"feed \w+ live", times=3)
    text = program.replace("ws://127.0.0.1:8000/ws", url)
    assert text != program
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", text),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        if "to_dataframe" in text and not TABLES:
            _, err = await process.communicate()
            assert b"pandas or polars" in err
            return
        lines = [await process.stdout.readline() for _ in range(3)]
        process.kill()
        _, err = await process.communicate()
    assert all(lines), err.decode()
    assert b"Traceback" not in err


def test_every_option_is_there_with_its_default():
    """In order."""
    fields = dataclasses.fields(Options)
    assert names("option") == [field.name for field in fields]
    defaults = Options()
    for (name, default, _), field in zip(rows("option"), fields, strict=True):
        value = getattr(defaults, field.name)
        shown = "none" if value in (None, {}) else f"`{value!r}`".replace("'", '"')
        assert default == shown, name


def test_every_message_and_callback_is_there():
    """By its type."""
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows("type")}
    assert shown == {kind.__name__: name for kind, name in NAMES.items()}


def test_every_policy_reason_and_error_is_there():
    """And none that there is not."""
    assert names("`policy`") == list(KINDS)
    assert {REASON, HOLE} < set(names("`reason`"))
    ours = {name for name in vars(errors) if name.endswith("Error")} - {"Error"}
    assert set(names("exception")) == ours - {"ClientError"}
    assert ours < set(aggregator.client.__all__)
