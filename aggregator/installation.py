"""What systemd needs to run this installation: the units, with its paths."""

from __future__ import annotations

import os
import re
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import AggregatorError
from .shipped import shipped

NAMES = ("aggregator", "aggregator-gateway")
UNITS = tuple(f"{name}.{kind}" for name in NAMES for kind in ("service", "socket"))
CONFIG_FILE = "aggregator.toml"
STANDARD = Path("/etc/aggregator")
"""Where the units of the project expect the configuration."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - none is used
"""What the daemon does not see: ProtectHome=yes and PrivateTmp=yes in the unit."""
MARKS = "/ _ . , + @ ~ -"
"""What a path may have beside letters and digits."""
PLAIN = re.compile(rf"/[\w{re.escape(MARKS.replace(' ', ''))}]*")
"""A path that means itself in every line of a unit, without quotes."""


class PathError(AggregatorError):
    """A path can't be used in a unit; the text says why, for people."""


def program() -> Path:
    """
    Return the program `aggregator` of the Python that runs.

    Raises:
        PathError: there is none, as where the package is only on a path.

    """
    path = Path(sysconfig.get_path("scripts"), "aggregator")
    if not path.is_file():
        raise PathError(f"{path}: there is no such program; install the package with pip")
    return path


def units(folder: Path, program: Path) -> dict[str, str]:
    """
    Return the text of each unit, by its name.

    Args:
        folder: where configuration and credentials are; absolute.
        program: what the unit runs; absolute.

    Raises:
        PathError: a path has characters that mean something to systemd.

    """
    pages = shipped("docs")
    places = {
        "/opt/aggregator/.venv/bin/aggregator": program,
        "/opt/aggregator/docs": pages,
        str(STANDARD): folder,
    }
    for path in places.values():
        if not PLAIN.fullmatch(str(path)):
            raise PathError(f"{str(path)!r}: in a unit a path has letters, digits and {MARKS}")
    # All at once: what one of them is replaced by is not looked at again.
    pattern = re.compile("|".join(map(re.escape, places)))
    texts = {name: (shipped("systemd") / name).read_text("utf-8") for name in UNITS}
    if folder != STANDARD:
        # systemd would make the standard folder, empty.
        line = f"ConfigurationDirectory={STANDARD.name}\n"
        texts = {name: text.replace(line, "") for name, text in texts.items()}
    return {
        name: pattern.sub(lambda found: str(places[found[0]]), text) for name, text in texts.items()
    }


def parts(program: Path) -> list[Path]:
    """Return what the daemon has to be able to read, beside its configuration."""
    return [program, Path(sys.executable), Path(__file__)]


def obstacles(paths: Iterable[Path]) -> Iterator[str]:
    """Yield why the daemon, whose user is made up by systemd, can't read one of these paths."""
    for path in paths:
        real = Path(os.path.realpath(path))
        shown = str(path) if real == path else f"{path} ({real})"
        if hidden := next((place for place in HIDDEN if real.is_relative_to(place)), None):
            yield f"{shown}: the unit hides {hidden} from the daemon"
        elif closed := next((p for p in (*reversed(real.parents), real) if not _open(p)), None):
            yield f"{shown}: {closed} can't be read by all"


def _open(path: Path) -> bool:
    """Whether all may enter a folder, or read a file; what can't even be looked at, nobody may."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return bool(mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH))
