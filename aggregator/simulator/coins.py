"""The coins CoinGecko knows here: real ids and symbols, prices and supplies made up.

`uni`, `pepe`, `ton`, `one` and others occur twice: a symbol is no key at CoinGecko.
"""

from dataclasses import dataclass

from aggregator.simulator.listing import Listing
from aggregator.simulator.market import Instrument, Market

# id | symbol | name | price | millions in circulation | maximum in millions (- = none)
_COINS = """
bitcoin|btc|Bitcoin|67012.5|19.7|21
ethereum|eth|Ethereum|3481.27|120.2|-
tether|usdt|Tether|1.0002|112000|-
binancecoin|bnb|BNB|601.35|147.6|200
solana|sol|Solana|162.43|461|-
usd-coin|usdc|USDC|0.9999|32900|-
ripple|xrp|XRP|0.6214|55600|100000
staked-ether|steth|Lido Staked Ether|3478.9|9.5|-
the-open-network|ton|Toncoin|7.015|2470|-
dogecoin|doge|Dogecoin|0.14213|144700|-
cardano|ada|Cardano|0.4417|35700|45000
tron|trx|TRON|0.1312|87200|-
shiba-inu|shib|Shiba Inu|0.00001742|589000000|-
avalanche-2|avax|Avalanche|31.25|394|720
wrapped-bitcoin|wbtc|Wrapped Bitcoin|66980.1|0.154|0.154
chainlink|link|Chainlink|14.62|608|1000
polkadot|dot|Polkadot|6.41|1430|-
bitcoin-cash|bch|Bitcoin Cash|382.6|19.7|21
uniswap|uni|Uniswap|8.412|599|1000
near|near|NEAR Protocol|5.214|1090|-
litecoin|ltc|Litecoin|73.18|74.8|84
leo-token|leo|LEO Token|5.84|926|985
dai|dai|Dai|0.9998|5320|-
matic-network|matic|Polygon|0.552|9900|10000
pepe|pepe|Pepe|0.00001121|420690000|420690000
internet-computer|icp|Internet Computer|8.31|465|-
wrapped-eeth|weeth|Wrapped eETH|3622.4|1.6|-
kaspa|kas|Kaspa|0.1702|24100|28700
ethereum-classic|etc|Ethereum Classic|22.31|148|210.7
fetch-ai|fet|Artificial Superintelligence Alliance|1.213|2520|2719
aptos|apt|Aptos|7.152|462|-
stellar|xlm|Stellar|0.09731|29200|50001
monero|xmr|Monero|159.2|18.4|-
sui|sui|Sui|0.9135|2560|10000
okb|okb|OKB|39.41|60|300
blockstack|stx|Stacks|1.731|1470|1818
cosmos-hub|atom|Cosmos Hub|6.913|390|-
filecoin|fil|Filecoin|4.618|572|1959
hedera-hashgraph|hbar|Hedera|0.06711|35900|50000
render-token|render|Render|6.214|392|532
injective-protocol|inj|Injective|24.31|97.7|-
crypto-com-chain|cro|Cronos|0.09112|26570|30263
mantle|mnt|Mantle|0.7513|3260|6219
arbitrum|arb|Arbitrum|0.7821|3350|10000
optimism|op|Optimism|1.824|1180|4295
immutable-x|imx|Immutable|1.413|1570|2000
first-digital-usd|fdusd|First Digital USD|0.9991|2030|-
bonk|bonk|Bonk|0.00002534|68700000|88870000
vechain|vet|VeChain|0.02641|80990|86713
maker|mkr|Maker|2712.4|0.93|1.005
dogwifcoin|wif|dogwifhat|2.114|998.8|998.9
bittensor|tao|Bittensor|301.2|7.1|21
aave|aave|Aave|95.12|14.9|16
floki|floki|FLOKI|0.0001622|9560000|10000000
arweave|ar|Arweave|27.31|65.4|66
the-graph|grt|The Graph|0.1981|9530|10800
thorchain|rune|THORChain|4.114|334|500
notcoin|not|Notcoin|0.01483|102400|102719
theta-token|theta|Theta Network|1.412|1000|1000
fantom|ftm|Fantom|0.4713|2800|3175
brett|brett|Brett|0.1191|9910|9999
jasmycoin|jasmy|JasmyCoin|0.02611|48400|50000
pyth-network|pyth|Pyth Network|0.3121|3620|10000
algorand|algo|Algorand|0.1433|8190|10000
lido-dao|ldo|Lido DAO|1.621|893|1000
celestia|tia|Celestia|6.018|196|-
jupiter-exchange-solana|jup|Jupiter|0.8112|1350|10000
sei-network|sei|Sei|0.3412|3000|10000
core-dao-2|core|Core|1.124|896|2100
flow|flow|Flow|0.6311|1510|-
ondo-finance|ondo|Ondo|1.013|1440|10000
bitcoin-sv|bsv|Bitcoin SV|47.21|19.7|21
bittorrent|btt|BitTorrent|8.61e-07|968200000|990000000
gatechain-token|gt|Gate|7.612|93|300
beam-2|beam|Beam|0.01631|49460|62450
flare-networks|flr|Flare|0.01713|42400|-
quant-network|qnt|Quant|69.31|14.5|14.9
elrond-erd-2|egld|MultiversX|31.42|27.1|31.4
axie-infinity|axs|Axie Infinity|5.813|145|270
ethena|ena|Ethena|0.4213|1700|15000
neo|neo|NEO|11.41|70.5|100
eos|eos|EOS|0.5712|1500|2100
gala|gala|GALA|0.02133|36600|50000
the-sandbox|sand|The Sandbox|0.3112|2300|3000
tezos|xtz|Tezos|0.7812|986|-
ecash|xec|eCash|0.00003271|19730000|21000000
conflux-token|cfx|Conflux|0.1613|4200|-
akash-network|akt|Akash Network|3.214|242|388.5
starknet|strk|Starknet|0.6812|1390|10000
decentraland|mana|Decentraland|0.3213|1910|-
mina-protocol|mina|Mina Protocol|0.5113|1130|-
ronin|ron|Ronin|2.113|337|1000
gnosis|gno|Gnosis|271.3|2.6|3
chiliz|chz|Chiliz|0.06912|8990|-
ordinals|ordi|ORDI|34.12|21|21
pendle|pendle|Pendle|3.913|157|-
pancakeswap-token|cake|PancakeSwap|2.013|270|450
book-of-meme|bome|BOOK OF MEME|0.009112|68900|69000
terra-luna|lunc|Terra Luna Classic|0.00008411|5690000|-
nervos-network|ckb|Nervos Network|0.01121|44500|-
zcash|zec|Zcash|27.13|16.3|21
havven|snx|Synthetix Network|1.712|328|-
iota|iota|IOTA|0.1612|3370|4600
kucoin-shares|kcs|KuCoin|9.113|95.7|142
apecoin|ape|ApeCoin|0.8113|653|1000
trust-wallet-token|twt|Trust Wallet|1.012|416|1000
1inch|1inch|1inch|0.3713|1250|1500
compound-governance-token|comp|Compound|49.13|8.5|10
curve-dao-token|crv|Curve DAO|0.2713|1190|3030
rocket-pool|rpl|Rocket Pool|19.13|20.4|-
holotoken|hot|Holo|0.001712|177600|-
zilliqa|zil|Zilliqa|0.01612|18100|21000
harmony|one|Harmony|0.01413|14200|-
enjincoin|enj|Enjin Coin|0.1713|1760|-
basic-attention-token|bat|Basic Attention|0.1913|1490|1500
dash|dash|Dash|24.13|11.8|18.9
loopring|lrc|Loopring|0.1613|1370|1374
wink|win|WINkLink|0.00008913|993700|999000
qubic-network|qubic|Qubic|9.04e-07|110000000|1000000000
baby-doge-coin|babydoge|Baby Doge Coin|1.37e-09|160000000000|-
unicorn-token|uni|UNICORN Token|0.00021|900|-
pepe-unchained-3|pepe|Pepe Unchained|0.0134|7000|8000
tokamak-network|ton|Tokamak Network|1.21|44|-
one-hundred|one|One Hundred|0.0412|300|-
staked-frax-ether|sfrxeth|Staked Frax Ether|3801.2|0.05|-
preview-only-coin|prv|Preview Only Coin|-|0|-
"""

_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Coin:
    """One coin; `instrument` gives its price (None: listed, but never priced)."""

    id: str
    number: int
    symbol: str
    name: str
    instrument: Instrument | None
    circulating: float
    maximum: float | None
    scale: float = 1.0

    @property
    def price(self) -> float | None:
        """The price in US dollars, None where nobody knows."""
        return None if self.instrument is None else self.instrument.price * self.scale


def known_coins(market: Market) -> tuple[Coin, ...]:
    """All coins by descending market capitalisation; those listed as USDT pairs share that walk."""
    coins = [
        _coin(market, number, line.split("|"))
        for number, line in enumerate(filter(None, _COINS.split("\n")), start=1)
    ]
    coins.sort(key=lambda coin: -(coin.price or 0.0) * coin.circulating)
    return tuple(coins)


def _coin(market: Market, number: int, fields: list[str]) -> Coin:
    coin_id, symbol, name, price, millions, maximum = fields
    instrument: Instrument | None = market.by_symbol.get(f"{symbol.upper()}USDT")
    scale = 1.0
    if price == "-":
        instrument = None
    elif instrument is None or not 0.5 < float(price) / instrument.price < 2:
        # Not listed, or another coin with the symbol of a listed one: a walk of its own.
        start = 1_000_000
        scale = float(price) / start * 10**_DECIMALS
        instrument = market.add_unlisted(Listing(coin_id.upper(), "USD", start, _DECIMALS, 0))
    ceiling = None if maximum == "-" else float(maximum) * 1e6
    return Coin(coin_id, number, symbol, name, instrument, float(millions) * 1e6, ceiling, scale)
