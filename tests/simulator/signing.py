"""Clients of the simulated accounts, as small as they can be."""

import json
import time
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from aggregator.simulator import signatures


def okx_login(key, *, at=None, secret=None, **instead):
    """Return the operation `login`; `instead` replaces parts of its argument."""
    timestamp = str(int(time.time())) if at is None else at
    sign = signatures.okx(secret or key.secret, timestamp, "GET", "/users/self/verify")
    arg = {"apiKey": key.api_key, "passphrase": key.passphrase, "timestamp": timestamp}
    return {"op": "login", "args": [arg | {"sign": sign} | instead]}


class Okx:
    """A logged-in socket; `pushes` gives data messages, what else came is in `events`."""

    def __init__(self, socket):
        self.socket = socket
        self.events = []

    async def login(self, key):
        await self.socket.send_json(okx_login(key))
        answer = await self.socket.receive_json()
        assert (answer["event"], answer["code"]) == ("login", "0")

    async def subscribe(self, *args):
        await self.socket.send_json({"op": "subscribe", "args": list(args)})

    async def pushes(self, count, channel=None):
        """Return the next `count` data messages, of this channel if it is given."""
        found = []
        while len(found) < count:
            message = await self.socket.receive_json()
            if "data" not in message:
                self.events.append(message)
            elif channel in (None, message["arg"]["channel"]):
                found.append(message)
        return found

    async def quiet(self):
        """Return what is still to come: a ping's answer comes after it."""
        await self.socket.send_str("ping")
        rest = []
        while (text := (await self.socket.receive()).data) != "pong":
            rest.append(json.loads(text))
        return rest


async def okx_rest(client, simulator, key, method, path, *, body=None, headers=None):
    """Return status and body of a signed request; `headers` replace or, with None, leave out."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers = headers or {}
    timestamp = headers.get("timestamp", now)
    text = "" if body is None else json.dumps(body)
    sign = signatures.okx(key.secret, timestamp or "", method, f"/api/v5/{path}", text)
    given = {"key": key.api_key, "sign": sign, "timestamp": timestamp}
    given |= {"passphrase": key.passphrase} | headers
    sent = {f"OK-ACCESS-{name.upper()}": value for name, value in given.items() if value}
    url = f"{simulator.okx_rest_url}/api/v5/{path}"
    async with client.request(method, url, data=text or None, headers=sent) as response:
        return response.status, await response.json(content_type=None)


def now_ms():
    return time.time_ns() // 1_000_000


def binance_params(key, **given):
    """Return the signed parameters of a request over the WebSocket API."""
    given = {"timestamp": now_ms(), "apiKey": key.api_key} | given
    payload = "&".join(f"{name}={value}" for name, value in sorted(given.items()))
    return given | {"signature": signatures.binance(key, payload)}


async def binance_rest(client, simulator, key, method, path, *, headers=None, **given):
    """Return status and body of a signed request."""
    query = urlencode({"timestamp": now_ms()} | given)
    query += f"&signature={quote(signatures.binance(key, query), safe='')}"
    url = f"{simulator.binance_url}{path}"
    headers = {"X-MBX-APIKEY": key.api_key} if headers is None else headers
    sent = {"data": query} if method == "POST" else {}
    if sent:
        headers = headers | {"Content-Type": "application/x-www-form-urlencoded"}
    else:
        url = f"{url}?{query}"
    async with client.request(method, url, headers=headers, **sent) as response:
        return response.status, await response.json(content_type=None)


class Binance:
    """A socket of the WebSocket API; events that come before an answer are kept."""

    def __init__(self, socket):
        self.socket = socket
        self._events = []

    async def call(self, method, **params):
        request = {"id": "x1", "method": method} | ({"params": params} if params else {})
        await self.socket.send_json(request)
        while "id" not in (message := await self.socket.receive_json()):
            self._events.append(message)
        return message

    async def subscribe(self, key):
        answer = await self.call("userDataStream.subscribe.signature", **binance_params(key))
        return answer["result"]["subscriptionId"]

    async def events(self, count):
        """Return the next `count` events as they are wrapped."""
        while len(self._events) < count:
            self._events.append(await self.socket.receive_json())
        taken, self._events = self._events[:count], self._events[count:]
        return taken

    async def quiet(self):
        """Return what is still to come: an answer comes after it."""
        await self.call("ping")
        rest, self._events = self._events, []
        return rest


async def place(client, simulator, account, **order):
    """Place an order by the simulator's own pages; return it."""
    async with client.post(f"{simulator.accounts_url}/{account}/orders", json=order) as response:
        assert response.status == 201, await response.text()
        return await response.json()


async def true_state(client, simulator, account):
    async with client.get(f"{simulator.accounts_url}/{account}") as response:
        return await response.json()
