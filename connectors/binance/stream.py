"""
Binance: what its streams have in common: subscribing, answers, the end, and which names exist.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams

A name that does not exist is acknowledged and stays silent, so the names are looked up. Events come
as they are, or wrapped as `{"stream":...,"data":...}` where the address ends with `/stream`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Raw, Struct, json

from aggregator import api
from connectors.binance.listing import BASE_URL, BUDGET, NAMES, names_request, read_names

MAX_STREAMS = 1024
"""A connection may have so many."""
MAX_BYTES = 4000
"""A longer request (4,096 bytes) is not answered, as others report; that is not documented."""

Milliseconds = Annotated[int, Meta(ge=0, lt=10**13)]


class BinanceOptions(api.FetchOptions):
    """What the section of a streamed Binance feed may contain."""

    instruments: Annotated[api.Instruments, api.Field(max_length=MAX_STREAMS)]
    """The instruments, as "BASE/QUOTE"; 1,024 at most."""
    urls: Annotated[list[api.WebSocketAddress], api.Field(min_length=1)] = api.Field(
        default=["wss://data-stream.binance.vision/ws", "wss://stream.binance.com:9443/ws"]
    )
    """Addresses of the venue's WebSocket, tried in turn."""
    base_url: api.HttpAddress = BASE_URL
    """Where the venue's REST interface is; the paths are appended."""


class Error(Struct, gc=False):
    """Why a request is refused."""

    code: int = 0
    msg: str = ""


class Message(Struct, gc=False):
    """Any frame: an event has `e`, a wrapped one `data`, an answer `id`."""

    e: str = ""
    data: Raw = Raw()
    id: int | str | None = None
    code: int | None = None
    msg: str = ""
    error: Error | None = None


DOCUMENTED = MappingProxyType(
    {
        "24hrTicker": api.Row(
            "e:text E:int s:text p:number0 P:number0 w:number x:number? c:number Q:number "
            "b:number? B:number? a:number? A:number? o:number h:number l:number v:number q:number "
            "O:int0 C:int F:int0 L:int0 n:int0"
        ),
        "24hrMiniTicker": api.Row(
            "e:text E:int s:text c:number o:number h:number l:number v:number0 q:number0"
        ),
        # Of older times: "b" and "a", the orders of buyer and seller.
        "trade": api.Row(
            "e:text E:int s:text t:int p:number q:number T:int m:bool M:bool b:int? a:int?"
        ),
        "depthUpdate": api.Row("e:text E:int s:text U:int u:int b:list a:list"),
    }
)
decode_message = json.Decoder(Message).decode


class Stream(api.StreamConnector):
    """A stream of each instrument, on one connection."""

    exchange = "binance"
    options: BinanceOptions
    budget = BUDGET
    # Five are allowed, the pongs that the venue may want among them.
    sends_per_s = 4
    documented = DOCUMENTED
    event: ClassVar[str]
    """The type of its events, in their field `e`."""

    def __init__(self, options: BinanceOptions) -> None:
        super().__init__(options)
        given: list[str] | Literal["all"] = options.instruments
        self._listed = () if given == "all" else tuple(given)
        self._by_symbol = {i.replace("/", ""): i for i in self._listed}
        self._beginning = f'{{"e":"{self.event}",'.encode()
        self._sent = 0
        self._last_request = ""

    def on_open(self) -> Iterator[api.Send | api.Fetch]:
        """Subscribe, and look the names up."""
        yield from self._subscribe(self._by_symbol)
        self._last_request = str(self._sent)
        yield api.Fetch(names_request(0.0))

    def on_frame(self, frame: bytes) -> Iterable[api.Output]:
        """Translate one frame."""
        # This is how the venue begins its events; one that begins otherwise takes the longer way.
        return self._event(frame) if frame.startswith(self._beginning) else self._other(frame)

    def on_response(self, request: api.Request, body: bytes) -> Iterable[api.Output]:
        """Translate the names."""
        return self._names(body) if request.key == NAMES else super().on_response(request, body)

    def rows(self, payload: Any) -> Iterable[tuple[str, object]]:
        """Yield the events of a frame, wrapped, as they are, or many at once."""
        events = payload if isinstance(payload, list) else [payload.get("data", payload)]
        return [(event["e"], event) for event in events if "e" in event]

    def resubscribe(self, instrument: str) -> Iterator[api.Send]:
        """Have the stream of one instrument closed and opened again."""
        streams = [self._stream(s) for s, name in self._by_symbol.items() if name == instrument]
        if streams:
            yield self._command("UNSUBSCRIBE", streams)
            yield self._command("SUBSCRIBE", streams)

    @abstractmethod
    def _stream(self, symbol: str) -> str:
        """Return the name of a symbol's stream."""

    @abstractmethod
    def _event(self, frame: bytes) -> Iterable[api.Output]:
        """Translate an event of the type wanted."""

    def _acknowledged(self) -> Iterable[api.Output]:
        """Say what to do now that everything is subscribed to: from here on nothing is missed."""
        return []

    def _names(self, body: bytes) -> Iterable[api.Output]:
        return read_names(body, self._listed).unknown

    def _other(self, frame: bytes) -> Iterable[api.Output]:
        message = decode_message(frame)
        if inner := bytes(message.data):
            return self.on_frame(inner)
        if message.e == self.event:
            return self._event(frame)
        if message.e == "serverShutdown":
            return [api.Leaving("serverShutdown")]
        if message.e:
            return [api.Unhandled(api.excerpt(message.e.encode())[:40])]
        code, text = message.code, message.msg
        if message.error is not None:
            code, text = message.error.code, message.error.msg
        if code is not None:
            raise api.ExchangeError(f"{code}: {api.excerpt(text.encode())}")
        if message.id is None:
            return [api.Unhandled("frame")]
        key = api.excerpt(str(message.id).encode())[:40]
        more = self._acknowledged() if key == self._last_request else []
        return [api.Acknowledged(key), *more]

    def _subscribe(self, symbols: Iterable[str]) -> Iterator[api.Send]:
        yield from self._subscribe_to(self._stream(symbol) for symbol in symbols)

    def _subscribe_to(self, streams: Iterable[str]) -> Iterator[api.Send]:
        group: list[str] = []
        size = 0
        for stream in streams:
            length = len(stream.encode()) + len('"",')
            if size + length > MAX_BYTES - 100:
                yield self._command("SUBSCRIBE", group)
                group, size = [], 0
            group.append(stream)
            size += length
        if group:
            yield self._command("SUBSCRIBE", group)

    def _command(self, method: str, streams: list[str]) -> api.Send:
        self._sent += 1
        command = {"method": method, "params": streams, "id": self._sent}
        return api.Send(json.encode(command).decode(), key=str(self._sent))
