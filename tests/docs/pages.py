"""The pages as the tests see them: blocks of code, sections and tables."""

from __future__ import annotations

import dataclasses
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {
    "README": ROOT / "README.md",
    "protocol": ROOT / "docs/protocol.md",
    "connectors": ROOT / "docs/connectors.md",
    "operations": ROOT / "docs/operations.md",
}
SOMETIMES = {"bid", "ask", "volume_24h", "change_24h_pct", "detail"}
"""Fields that a message may lack."""


@dataclasses.dataclass
class Block:
    """A fenced block, or an indented one, which is a shell's."""

    page: str
    line: int
    info: str
    text: str
    before: str
    """The last line of text above it."""

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.page}-{self.line}"


def text_of(page: str) -> str:
    return PAGES[page].read_text("utf-8")


def blocks(page: str, language: str | None = None) -> list[Block]:
    """Return the blocks of a page, or those in one language."""
    found: list[Block] = []
    before, fence = "", None
    for number, line in enumerate(text_of(page).splitlines(), 1):
        if line.startswith("```"):
            fence = None if fence else Block(page, number, line[3:], "", before)
            found += [fence] if fence else []
        elif fence:
            fence.text += line + "\n"
        elif line.startswith("    "):
            found.append(Block(page, number, "sh", line.strip() + "\n", before))
        elif line.strip():
            before = line
    return [b for b in found if language in {None, b.language}]


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, language)]


def section(page: str, title: str) -> str:
    """Return what stands below a heading, up to the next one of its level or above."""
    level = len(title) - len(title.lstrip("#"))
    lines = text_of(page).splitlines()
    start = lines.index(title) + 1
    rest = lines[start:]
    heading = re.compile(rf"#{{1,{level}}} ")
    end = next((n for n, line in enumerate(rest) if heading.match(line)), len(rest))
    return "\n".join(rest[:end])


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the tables in a text, each row by the titles of its columns."""
    found: list[list[dict[str, str]]] = []
    titles: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            titles = []
            continue
        cells = [c.replace("\\|", "|").strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not titles:
            titles = cells
            found.append([])
        elif set(line) - set("|- "):
            found[-1].append(dict(zip(titles, cells, strict=True)))
    return found


def table(text: str, title: str) -> list[dict[str, str]]:
    """Return the only table in a text whose first column has this title."""
    [rows] = [rows for rows in tables(text) if rows and next(iter(rows[0])) == title]
    return rows


def code(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def names(rows: list[dict[str, str]]) -> list[str]:
    """Return what stands between backticks in the first column."""
    return [name for row in rows for name in code(next(iter(row.values())))]


def loads(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def same_shape(documented: Any, actual: Any, place: str = "message") -> None:
    """Hold a message against its example: the same fields, in order, of the same types."""
    if isinstance(documented, dict):
        assert isinstance(actual, dict), place
        if place.endswith(".data"):
            # Shortened in the examples, as the page says.
            assert documented.keys() <= actual.keys(), place
        else:
            kept = [k for k in documented if k in actual or k not in SOMETIMES]
            assert kept == [k for k in actual if k in documented or k not in SOMETIMES], place
        for key in documented.keys() & actual.keys():
            same_shape(documented[key], actual[key], f"{place}.{key}")
    elif isinstance(documented, list):
        assert isinstance(actual, list), place
        for one, other in zip(documented, actual, strict=False):
            same_shape(one, other, place)
    elif isinstance(documented, int | Decimal) and not isinstance(documented, bool):
        whole = place.endswith(("_us", "seq", "conflated", "clients", "subscribers"))
        assert isinstance(actual, int if whole else (int, Decimal)), place
    else:
        assert type(actual) is type(documented), f"{place}: {actual!r}"
