"""Where the files are that come with the package and are no code."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """
    Return a folder of the project, `docs` or `systemd`, as it is here.

    A wheel has copies of them in `aggregator/data` (pyproject.toml, "force-include"); where the
    package runs from the repository, they are the repository's own.
    """
    installed = HERE / "data"
    return (installed if installed.is_dir() else HERE.parent) / folder
