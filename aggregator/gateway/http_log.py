"""What aiohttp logs of requests, without what is no fault of ours."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

from .sessions import Counters


class HttpLog(logging.LoggerAdapter[logging.Logger]):
    """
    What aiohttp logs, but for requests that are no HTTP: those are counted, not our error.

    Args:
        logger: where the rest goes.
        counters: count them.

    """

    def __init__(self, logger: logging.Logger, counters: Counters) -> None:
        super().__init__(logger)
        self._counters = counters

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Log, or count."""
        if isinstance(options.get("exc_info"), HttpProcessingError):
            self._counters.rejected["no_http"] += 1
        else:
            super().log(level, msg, *args, **options)
