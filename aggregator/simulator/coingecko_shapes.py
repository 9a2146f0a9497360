"""CoinGecko's bodies, with its nulls, its mix of integers and floats and its exponents."""

import math
from typing import Any

import orjson

from aggregator.simulator.coins import Coin

IMAGES = "https://coin-images.coingecko.com/coins/images"
# Units of each currency for one US dollar, fixed: only their magnitudes matter.
_PER_USD = {
    "usd": 1.0,
    "eur": 0.9231,
    "gbp": 0.7872,
    "jpy": 155.31,
    "idr": 16_105.4,
    "krw": 1_371.2,
    "inr": 83.41,
    "myr": 4.709,
    "vnd": 25_451.0,
}


def number(value: float) -> Any:
    """Return it as CoinGecko writes it: with an exponent where it is very large or very small."""
    if abs(value) >= 1e15:
        return orjson.Fragment(f"{value:.14e}")
    if value and abs(value) < 1e-4:
        return orjson.Fragment(repr(value))
    return value


def price_number(value: float | None) -> Any:
    """Return a price: an integer from 1000 up, five significant digits below."""
    if value is None:
        return None
    if value >= 1000:
        return round(value)
    digits = 4 - math.floor(math.log10(value)) if value > 0 else 4
    return number(round(value, min(max(digits, 2), 16)))


def rates(coins: dict[str, Coin]) -> dict[str, float]:
    """Units of each supported currency for one dollar, crypto ones at their present price."""
    crypto = {
        coins[coin_id].symbol: 1 / price
        for coin_id in ("bitcoin", "ethereum", "ripple", "binancecoin", "litecoin")
        if (price := coins[coin_id].price)
    }
    return _PER_USD | crypto


def capitalisation(coin: Coin, rate: float = 1.0) -> float:
    """Market capitalisation, 0 for a coin without a price."""
    return (coin.price or 0.0) * coin.circulating * rate


def volume(coin: Coin, rate: float = 1.0) -> float:
    """Turnover of 24 hours, made up from the walk's volume."""
    if coin.instrument is None:
        return 0.0
    share = 0.02 + coin.instrument.volume % 97 / 1000
    return capitalisation(coin, rate) * share


def change_percent(coin: Coin) -> float | None:
    """Change of the price in 24 hours, in percent."""
    if coin.instrument is None:
        return None
    return (coin.instrument.last / coin.instrument.open - 1) * 100


def _extremes(price: float | None) -> dict[str, Any]:
    """Return highest and lowest price ever: invented, a fixed way off the present one."""
    names = ("ath", "ath_change_percentage", "ath_date", "atl", "atl_change_percentage", "atl_date")
    if price is None:
        return dict.fromkeys(names)
    high = (price_number(price * 1.13), -11.50442, "2025-10-06T18:57:42.558Z")
    low = (price_number(price / 900), 89900.00442, "2015-10-20T00:00:00.000Z")
    return dict(zip(names, high + low, strict=True))


def market_row(coin: Coin, rank: int, rate: float, updated: str) -> dict[str, Any]:
    """One row of `/coins/markets`."""
    price = None if coin.price is None else coin.price * rate
    percent = change_percent(coin)
    cap = round(capitalisation(coin, rate))
    high = low = before = None
    if coin.instrument is not None and price is not None:
        high, low, before = (
            price * ticks / coin.instrument.last
            for ticks in (coin.instrument.high, coin.instrument.low, coin.instrument.open)
        )
    change = None if price is None or before is None else price - before
    return {
        "id": coin.id,
        "symbol": coin.symbol,
        "name": coin.name,
        "image": f"{IMAGES}/{coin.number}/large/{coin.id}.png?1696501400",
        "current_price": price_number(price),
        "market_cap": cap,
        "market_cap_rank": rank if cap else None,
        "fully_diluted_valuation": round(coin.maximum * price) if coin.maximum and price else None,
        "total_volume": round(volume(coin, rate)),
        "high_24h": price_number(high),
        "low_24h": price_number(low),
        "price_change_24h": None if change is None else number(change),
        "price_change_percentage_24h": None if percent is None else round(percent, 5),
        "market_cap_change_24h": None if percent is None else cap * percent / 100,
        "market_cap_change_percentage_24h": None if percent is None else round(percent, 5),
        "circulating_supply": coin.circulating,
        "total_supply": coin.maximum or coin.circulating,
        "max_supply": coin.maximum,
        **_extremes(price),
        "roi": {"times": 33.7, "currency": "btc", "percentage": 3370.2}
        if coin.id == "ethereum"
        else None,
        "last_updated": updated,
    }


def global_body(coins: tuple[Coin, ...], known: dict[str, Coin], now: float) -> dict[str, Any]:
    """Return the body of `/global`."""
    cap = sum(capitalisation(coin) for coin in coins)
    turnover = sum(volume(coin) for coin in coins)
    before = sum(capitalisation(coin) / (1 + (change_percent(coin) or 0) / 100) for coin in coins)
    table = rates(known)
    return {
        "data": {
            "active_cryptocurrencies": 17_000 + len(coins),
            "upcoming_icos": 0,
            "ongoing_icos": 49,
            "ended_icos": 3376,
            "markets": 1476,
            "total_market_cap": {name: number(cap * rate) for name, rate in table.items()},
            "total_volume": {name: number(turnover * rate) for name, rate in table.items()},
            "market_cap_percentage": {
                coin.symbol: capitalisation(coin) / cap * 100 for coin in coins[:10]
            },
            "market_cap_change_percentage_24h_usd": (cap / before - 1) * 100,
            "volume_change_percentage_24h_usd": 33.064521460740046,
            "updated_at": int(now),
        }
    }


def trending_item(coin: Coin, rank: int, score: int, btc: float) -> dict[str, Any]:
    """One entry of `coins` in `/search/trending`."""
    price = coin.price or 0.0
    thumb = f"{IMAGES}/{coin.number}"
    cap, turnover = capitalisation(coin), volume(coin)
    percent = change_percent(coin) or 0.0
    return {
        "item": {
            "id": coin.id,
            "coin_id": coin.number,
            "name": coin.name,
            "symbol": coin.symbol.upper(),
            "market_cap_rank": rank,
            "thumb": f"{thumb}/standard/{coin.id}.png?1731185925",
            "small": f"{thumb}/small/{coin.id}.png?1731185925",
            "large": f"{thumb}/large/{coin.id}.png?1731185925",
            "slug": coin.id,
            "price_btc": number(price / btc),
            "score": score,
            "data": {
                "price": number(price),
                "price_btc": f"{price / btc:.24f}".rstrip("0"),
                "price_change_percentage_24h": dict.fromkeys(("usd", "eur", "btc"), percent),
                "market_cap": f"${cap:,.0f}",
                "market_cap_btc": f"{cap / btc}",
                "total_volume": f"${turnover:,.0f}",
                "total_volume_btc": f"{turnover / btc}",
                "sparkline": f"https://www.coingecko.com/coins/{coin.number}/sparkline.svg",
                "content": None,
            },
        }
    }
