"""
In the daemon's process, by PYTHONPATH: what can't be seen or done from outside.

SIGUSR2 makes it write the names of its tasks to the file that the variable CHAOS_TASKS names.
SIGUSR1 makes its wall clock jump by as many seconds as the file says that CHAOS_CLOCK names; what
counts durations, the monotonic clock, goes on.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path


def _tell(_number: int, _frame: object) -> None:
    tasks = [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]
    names = sorted(each.get_name() for each in tasks if not each.done())
    path = Path(os.environ["CHAOS_TASKS"])
    whole = path.with_suffix(".new")
    whole.write_text("".join(f"{name}\n" for name in names))
    whole.replace(path)


def _jump(_number: int, _frame: object) -> None:
    import time_machine  # noqa: PLC0415 - it takes a while, and most have no use for it

    path = Path(os.environ["CHAOS_CLOCK"])
    by = timedelta(seconds=float(path.read_text()))
    time_machine.travel(datetime.now(UTC) + by).start()
    path.unlink()


if "CHAOS_TASKS" in os.environ:
    signal.signal(signal.SIGUSR2, _tell)
if "CHAOS_CLOCK" in os.environ:
    signal.signal(signal.SIGUSR1, _jump)
