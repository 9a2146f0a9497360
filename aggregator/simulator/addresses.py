"""Where the simulated venues are."""

from typing import Any

from aggregator.simulator.keys import named


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

    def account_sections(self) -> dict[str, dict[str, Any]]:
        """Return what to put into sections of accounts, by connector; the keys may only read."""
        okx: dict[str, Any] = {"urls": [self.okx_private_url], "base_url": self.okx_rest_url}
        binance = {"urls": [self.binance_ws_api_url], "base_url": self.binance_url}
        api = {"rest": self.okx_rest_url, "ws": self.okx_private_url.removesuffix("/private")}
        return {
            "okx.account": okx | _credentials("okx"),
            "binance.account": binance | _credentials("binance"),
            "ccxt.account": {"exchange": "okx", "urls": {"api": api}} | _credentials("okx"),
        }

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


def _credentials(venue: str) -> dict[str, str]:
    key = named(venue, "viewer")
    given = {"api_key": key.api_key, "api_secret": key.secret, "passphrase": key.passphrase}
    return {name: secret for name, secret in given.items() if secret}
