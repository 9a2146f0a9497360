"""`aggregator init`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import click

FOLDER_MODE, CREDENTIALS_MODE, FILE_MODE = 0o755, 0o700, 0o644
"""Whatever the umask: the daemon runs as a user of its own. No secret is in the files."""

STEPS = """
All options are in {config}. Check it after each change:

    {program} check-config --config {config}

Without systemd:

    {program} run --config {config}

With systemd, as root:

    systemctl enable --now {folder}/aggregator.service

Or so that systemd listens, and clients wait while the daemon restarts:

    systemctl link {folder}/aggregator.service
    systemctl enable --now {folder}/aggregator.socket
    systemctl start aggregator

Secrets are files in {folder}/credentials: aggregator help credentials"""


@click.command()
@click.argument(
    "folder",
    metavar="[DIR]",
    required=False,
    default=".",
    type=click.Path(file_okay=False, path_type=Path),
)
@click.option("--units", "only_units", is_flag=True, help="The units alone: after an upgrade.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def init(folder: Path, *, only_units: bool, force: bool) -> None:
    """
    Write a configuration and units for systemd into DIR, else the current folder.

    The configuration has every option with its default and explanation. The units run this
    installation with that configuration. Nothing is started, and nothing outside of DIR changed.

    \b
    aggregator init /etc/aggregator
    aggregator init --units --force /etc/aggregator
    """  # noqa: D301 - \b is click's mark for a block that is not to be filled
    import os

    from . import config, configdoc, installation

    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - without `..`, and links as they are
    try:
        program = installation.program()
    except installation.PathError as e:
        raise click.ClickException(str(e)) from None
    try:
        files = installation.units(folder, program)
    except installation.PathError as e:
        raise click.UsageError(str(e)) from None
    path = folder / installation.CONFIG_FILE
    if not only_units:
        # The defaults alone: what holds for this shell need not hold for the daemon.
        defaults = config.load(Path(os.devnull), environ={})
        files = {path.name: configdoc.render(defaults), **files}
    _write(folder, files, force=force)
    for obstacle in installation.obstacles([*installation.parts(program), path]):
        click.echo(f"warning: the unit will not start: {obstacle}", err=True)
    click.echo(STEPS.format(config=path, program=program, folder=folder))


def _write(folder: Path, files: dict[str, str], *, force: bool) -> None:
    """Write the files, all or, where one is there already, none; say each."""
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        names = ", ".join(there)
        raise click.UsageError(f"{folder} already has {names}; --force overwrites")
    with _told(folder):
        _make(folder, FOLDER_MODE)
        _make(folder / "credentials", CREDENTIALS_MODE)
    for name, text in files.items():
        path = folder / name
        with _told(path):
            with path.open("w" if force else "x", encoding="utf-8") as file:
                file.write(text)
            path.chmod(FILE_MODE)
        click.echo(f"wrote {path}")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say what can't be written: where the disk is full the error names nothing."""
    try:
        yield
    except OSError as e:
        text = f"{e.filename or path}: can't be written: {e.strerror}"
        raise click.ClickException(text) from None


def _make(folder: Path, mode: int) -> None:
    """Make a folder, with this mode; one that is there stays as it is."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(mode)
