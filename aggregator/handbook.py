"""The pages of docs/ by topic: a page is one, and so is each heading, with what is below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .shipped import shipped

FIRST = "operations"
"""Of what several pages say something about, this page's is shown."""
ALSO = {
    "container": "in-a-container",
    "exit-codes": "commands",
    "secrets": "credentials",
    "systemd": "install",
}
"""What people look for under another name."""
OFTEN = ("configuration", "channels", "limits", "exit-codes", "signals", "files", "credentials")
"""What people look for most."""
MAX_MENTIONS = 10


@dataclass(frozen=True, slots=True)
class Topic:
    """Something to read: its Markdown, from its heading to the next one of its level or above."""

    name: str
    page: str
    level: int
    text: str
    own: str
    """The text without what is below deeper headings."""

    @property
    def path(self) -> str:
        """The name that no other topic has."""
        return self.page if self.level == 1 else f"{self.page}/{self.name}"


def topics() -> list[Topic]:
    """Return all topics, in the order of the pages; each page begins with itself as a whole."""
    paths = sorted(shipped("docs").glob("*.md"), key=lambda p: (p.stem != FIRST, p.stem))
    return [topic for path in paths for topic in _of_page(path.stem, path.read_text("utf-8"))]


def find(name: str, among: list[Topic]) -> list[Topic]:
    """Return the topics of this name, the one that is most likely meant first."""
    wanted = name.lower()
    wanted = ALSO.get(wanted, wanted)
    return sorted((t for t in among if wanted in {t.name, t.path}), key=lambda t: t.level > 1)


def mentions(words: str, among: list[Topic]) -> list[Topic]:
    """Return the first topics in whose own text these words are; `-` stands for a space as well."""
    pattern = re.compile(re.escape(words).replace(r"\-", "[-_ ]"), re.IGNORECASE)
    return [topic for topic in among if pattern.search(topic.own)][:MAX_MENTIONS]


def _of_page(page: str, text: str) -> Iterator[Topic]:
    lines = text.splitlines()
    headings = list(_headings(lines))
    for index, (start, level, title) in enumerate(headings):
        later = [(line, other) for line, other, _ in headings[index + 1 :]]
        end = next((line for line, other in later if other <= level), len(lines))
        own_end = later[0][0] if later else len(lines)
        yield Topic(
            page if level == 1 else _name(title),
            page,
            level,
            "\n".join(lines[start:end]).rstrip(),
            "\n".join(lines[start:own_end]),
        )


def _name(title: str) -> str:
    """Return what is typed for a heading: its words up to a colon."""
    return "-".join(re.findall(r"\w+", title.partition(":")[0].lower().replace("'", "")))


def _headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield number of line, level and title; `#` in a block of code begins a comment."""
    in_code = False
    for number, line in enumerate(lines):
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code and (heading := re.match(r"(#+) (.+)", line)):
            yield number, len(heading[1]), heading[2]
