"""
Any exchange that ccxt knows: tickers, trades, order books and candles, streamed or polled.

https://docs.ccxt.com

These connectors are drivers: ccxt does its own I/O. `exchange` makes and closes it, `tap` hears
everything that arrives, `feed` is what the four kinds of data share.
"""
