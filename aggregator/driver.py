"""
The one kind of connector that is no translator: it stands around a library with I/O of its own.

Its runner is `aggregator.ingest.driver`.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from .connector import Connector, Output, PollConnector, StreamConnector
from .options import Options

Emit = Callable[[Iterable[Output]], None]
"""Takes what one frame or answer means; raises what ends the attempt."""


class DriverConnector(Connector):
    """
    A connector around a library that does its own I/O and will not be told otherwise.

    It opens and closes connections, and says what arrived. When to try, how long to wait, what is
    stale, counted and told to clients is still its runner's. An instance lives as long as its feed.
    """

    library: ClassVar[str]
    """The module that its runner imports before the first attempt, and only then."""
    install: ClassVar[str]
    """What to install for it, as pip takes it."""
    sparse: ClassVar[bool] = False
    """Whether a poll may bring nothing of an instrument without anything being wrong."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.interval_s = 0.0
        """From poll to poll, in seconds, where it polls, and an empty answer is one; else 0."""

    def facts(self) -> Mapping[str, object]:
        """
        Return what it knows of its library's doings, for who asks why nothing comes.

        Called in the loop's thread. Ages are in seconds; nothing in it may be secret.
        """
        return {}

    @abstractmethod
    async def run(self, emit: Emit) -> None:
        """
        Bring data, a frame or an answer for each call of `emit`, until something ends it.

        Cancelled or not, it leaves no connection and no task behind, and takes a second at most
        for that.

        Raises:
            ConnectorError: why it ended.

        """


AnyConnector = PollConnector | StreamConnector | DriverConnector


def lacks(cls: type[Connector] | None) -> str:
    """Return what a driver needs and is not installed, for people; empty if nothing is missing."""
    if cls is None or not issubclass(cls, DriverConnector):
        return ""
    package = cls.library.partition(".")[0]
    if importlib.util.find_spec(package):
        return ""
    return f'needs {package}, which is not installed: pip install "{cls.install}"'
