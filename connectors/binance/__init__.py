"""
Binance: spot markets, over REST (`rest`) and as streams (`ticker`, `trades`, `depth`).

https://developers.binance.com/docs/binance-spot-api-docs
"""
