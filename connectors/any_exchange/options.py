"""What the sections of ccxt feeds may contain."""

from __future__ import annotations

import importlib.util
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from aggregator.api import Field, Instruments, Options, Seconds

KEYS = frozenset({"apikey", "secret", "password", "uid", "privatekey", "walletaddress", "token"})


def _known(name: str) -> str:
    """Check an exchange's name against ccxt's files, since to import it takes long."""
    spec = importlib.util.find_spec("ccxt")
    if spec is None or not spec.submodule_search_locations:
        return name  # the feed says what is missing
    folder = Path(spec.submodule_search_locations[0], "async_support")
    known = {path.stem for path in folder.glob("[a-z]*.py")}
    if name in known:
        return name
    close = " or ".join(get_close_matches(name, known))
    raise ValueError("ccxt has no exchange of this name" + f"; did you mean {close}?" * bool(close))


def _without_keys(config: dict[str, Any]) -> dict[str, Any]:
    named = sorted(key for key in config if key.replace("_", "").lower() in KEYS)
    if named:
        raise ValueError(f"{', '.join(named)}: public data need no key, and none is accepted here")
    return config


ExchangeName = Annotated[str, AfterValidator(_known)]
WithoutKeys = AfterValidator(_without_keys)


class CcxtOptions(Options):
    """What the section of a `ccxt.ticker` feed may contain."""

    exchange: ExchangeName
    """The exchange, by its name in ccxt, as "kraken"."""
    instruments: Instruments | Literal["all"]
    """The instruments, as "BASE/QUOTE", or "all" spot markets that are trading."""
    mode: Literal["auto", "stream", "poll"] = "auto"
    """Whether to stream or to poll; "auto" streams where ccxt can."""
    interval_s: Seconds = 10.0
    """Time from poll to poll."""
    timeout_s: Seconds = 8.0
    """How long one answer may take, whole."""
    sandbox: bool = False
    """Whether to use the exchange's test environment, if it has one."""
    urls: dict[str, Any] = Field(default={})
    """Other addresses of the exchange, as ccxt's `urls`."""
    ccxt_options: Annotated[dict[str, Any], WithoutKeys] = Field(default={})
    """What else ccxt's exchange takes when it is made, as `{hostname = "...", options = {...}}`."""


class ListedOptions(CcxtOptions):
    """What the section of every ccxt feed but `ccxt.ticker` may contain."""

    instruments: Instruments
    """The instruments, as "BASE/QUOTE": spot markets."""


class BookOptions(ListedOptions):
    """What the section of a `ccxt.book` feed may contain."""

    depth: Annotated[int, Field(ge=1, le=1000)] = 20
    """Levels of each side; a message has them all."""


class CandleOptions(ListedOptions):
    """What the section of a `ccxt.ohlcv` feed may contain."""

    timeframe: str = "1m"
    """The interval of a candle, as ccxt writes it: "1m", "1h", "1d"."""
