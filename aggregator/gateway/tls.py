"""TLS of the daemon's own: what new connections are shown."""

from __future__ import annotations

import ssl

from aggregator.errors import ConfigError
from aggregator.settings import Server, tls_context


def context(config: Server) -> ssl.SSLContext | None:
    """
    Read the certificate and its key; without them there is no TLS.

    Raises:
        ConfigError: they can't be used, though they could when the configuration was checked.

    """
    if config.tls_certificate is None or config.tls_key is None:
        return None
    try:
        return tls_context(config.tls_certificate, config.tls_key)
    except ValueError as e:
        raise ConfigError(f"server.tls_certificate, server.tls_key: {e}") from None
