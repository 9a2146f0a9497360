"""Where the simulated venues are."""


class Addresses:
    """The URLs of a simulator that listens on `host` and `port`."""

    host: str
    port: int

    @property
    def binance_url(self) -> str:
        """REST; `/api/v3/...` and `/sapi/v1/...` follow."""
        return f"http://{self._address}/binance"

    @property
    def binance_ws_url(self) -> str:
        """Streams; `/ws/...` or `/stream?streams=...` follows."""
        return f"ws://{self._address}/binance"

    @property
    def binance_ws_api_url(self) -> str:
        """The WebSocket API, with the user data stream."""
        return f"ws://{self._address}/binance/ws-api/v3"

    @property
    def coingecko_url(self) -> str:
        """REST; `/global` and others follow."""
        return f"http://{self._address}/coingecko/api/v3"

    @property
    def okx_url(self) -> str:
        """The public WebSocket."""
        return f"ws://{self._address}/okx/ws/v5/public"

    @property
    def okx_private_url(self) -> str:
        """The private WebSocket."""
        return f"ws://{self._address}/okx/ws/v5/private"

    @property
    def okx_rest_url(self) -> str:
        """REST; `/api/v5/...` follows."""
        return f"http://{self._address}/okx"

    @property
    def accounts_url(self) -> str:
        """The simulator's own pages about the accounts; `/okx/main` and others follow."""
        return f"http://{self._address}/accounts"

    def urls(self) -> dict[str, str]:
        """Return all of them by name."""
        names = (
            "binance_url",
            "binance_ws_url",
            "binance_ws_api_url",
            "coingecko_url",
            "okx_url",
            "okx_private_url",
            "okx_rest_url",
            "accounts_url",
        )
        return {name: getattr(self, name) for name in names}

    @property
    def _address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
