"""The side of the exchanges: sockets, deadlines, retries, limits, freshness and counters."""
