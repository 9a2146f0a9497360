"""The documents for tools: they are valid, complete, and what they say is what is answered."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request

import pytest
from docs.pages import all_blocks, blocks, loads, section, table, text_of
from docs.test_messages import connect, receive, until
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from aggregator.gateway import documents


@pytest.fixture(scope="module")
def openapi(demo):
    return json.loads(demo.get("/openapi.json"))


@pytest.fixture(scope="module")
def asyncapi(demo):
    return json.loads(demo.get("/asyncapi.json"))


def check(document, instance, schema):
    """Hold an answer against a schema; with every field of it described."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    errors = list(Draft202012Validator(root).iter_errors(instance))
    assert not errors, errors[0]
    described = document["components"]["schemas"][schema].get("properties")
    if described is not None and schema != "Why":
        assert instance.keys() <= described.keys()


def ask(demo, path, method="GET", body=None):
    """Return status and content."""
    url = f"http://127.0.0.1:{demo.port}{path}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.loads(e.read())


def message(asyncapi, instance, channel="ws"):
    """Hold a message against the payload of its type."""
    name = instance.get("type", "ShortAnswer")
    assert name in asyncapi["channels"][channel]["messages"]
    payload = asyncapi["components"]["messages"][name]["payload"]["$ref"]
    check(asyncapi, instance, payload.rpartition("/")[2])


def test_openapi_is_valid(openapi):
    """By the schema of OpenAPI 3.1 itself."""
    validate(openapi)


def test_references_lead_somewhere(openapi, asyncapi):
    """In both documents; and AsyncAPI's has no schema that nothing refers to."""
    for document in (openapi, asyncapi):
        for reference in set(re.findall(r'"#/([^"]+)"', json.dumps(document))):
            place = document
            for key in reference.split("/"):
                place = place[key]
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(asyncapi)))
    assert used == asyncapi["components"]["schemas"].keys()


def test_asyncapi_says_where(demo, asyncapi):
    """The server is the one that was asked."""
    assert asyncapi["asyncapi"] == "3.0.0"
    assert asyncapi["servers"]["daemon"]["host"] == f"127.0.0.1:{demo.port}"
    addresses = [channel["address"] for channel in asyncapi["channels"].values()]
    assert addresses == ["/ws", "/ws/ticker"]


def test_every_route_is_described(openapi):
    """All of docs/protocol.md, but for the documents themselves."""
    titles = re.findall(r"^### (GET|POST) (\S+)$", text_of("protocol"), re.MULTILINE)
    described = {
        (method.upper(), path) for path, each in openapi["paths"].items() for method in each
    }
    assert described | {("GET", "/openapi.json"), ("GET", "/asyncapi.json")} == set(titles)


GETS = [
    ("/healthz", "/healthz"),
    ("/readyz", "/readyz"),
    ("/channels", "/channels"),
    ("/why/{channel}", "/why/bitcoinprice"),
    ("/why/{channel}", "/why/nowhere"),
    ("/latest/{channel}", "/latest/bitcoinprice"),
    ("/latest/{channel}", "/latest/nowhere"),
    ("/latest/{channel}/{instrument}", "/latest/bitcoinprice/BTC/USDT"),
    ("/latest/{channel}/{instrument}", "/latest/bitcoinprice/NO/SUCH"),
    ("/history/{channel}", "/history/bitcoinprice"),
    ("/history/{channel}", "/history/system?since_seq=0&epoch=another"),
    ("/history/{channel}", "/history/bitcoinprice?limit=x"),
]


@pytest.mark.parametrize(("route", "path"), GETS)
def test_answers_are_as_described(demo, openapi, route, path):
    """Each status that really comes is described, and what comes with it is as its schema says."""
    status, content = ask(demo, path)
    response = openapi["paths"][route]["get"]["responses"][str(status)]
    schema = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    check(openapi, content, schema)


@pytest.mark.parametrize(
    ("route", "path", "body"),
    [
        ("/ws/test", "/ws/test", b'{"message":"hello"}'),
        ("/ws/test", "/ws/test", b'{"message":5}'),
        ("/feeds/{name}/rotate", "/feeds/bitcoinprice/rotate", None),
        ("/feeds/{name}/rotate", "/feeds/binance_prices/rotate", None),
        ("/feeds/{name}/rotate", "/feeds/nowhere/rotate", None),
    ],
)
def test_answers_to_operators(demo, openapi, route, path, body):
    """So it is of what operators ask."""
    status, content = ask(demo, path, "POST", body)
    operation = openapi["paths"][route]["post"]
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]["$ref"]
    check(openapi, content, schema.rpartition("/")[2])
    assert {"token": []} in operation["security"]


def test_messages_are_as_described(demo, asyncapi):
    """All that comes of all channels, answers and refusals included."""
    channels = [each["channel"] for each in json.loads(demo.get("/channels"))["channels"]]
    seen = set()
    with connect(demo.ws()) as ws:
        ws.send(json.dumps({"type": "subscribe", "channels": [*channels, "nowhere"], "id": 1}))
        ws.send('{"type":"ping"}')
        ws.send('{"type":"unsubscribe","channels":["system"]}')
        while not {"unsubscribed", "pong", "error", "price_update", "system_status"} <= seen:
            found = receive(ws)
            message(asyncapi, found)
            seen.add(found["type"])
    with connect(demo.ws("/ws/ticker")) as ws:
        ws.send('{"action":"subscribe","symbol":"BTC/USDT"}')
        message(asyncapi, receive(ws), "ticker")
        message(asyncapi, until(ws, lambda each: each["type"] == "price_update"), "ticker")


EXAMPLES = [
    loads(line)
    for block in all_blocks("json")
    for line in block.text.splitlines()
    if block.page == "protocol" and '"type":' in line[:10]
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each["type"])
def test_examples_are_as_described(example, asyncapi, openapi):
    """Every message of docs/protocol.md, so that those are covered that are rare."""
    plain = json.loads(json.dumps(example, default=float))
    if example["type"].endswith("_response"):
        check(
            openapi,
            plain,
            example["type"].partition("_")[0].capitalize() + "Response",
        )
    else:
        message(asyncapi, plain)


def test_commands_are_as_described(asyncapi):
    """What clients send in the conversations of docs/protocol.md is what the commands allow."""
    names = {"subscribe": "Subscribe", "unsubscribe": "Unsubscribe", "ping": "Ping"}
    for block in blocks("protocol", "text"):
        for line in block.text.splitlines():
            if line.startswith("> ") and '"error"' not in block.text:
                sent = json.loads(line[2:])
                check(asyncapi, sent, names.get(sent.get("type"), "ShortForm"))


def test_every_message_has_its_words(asyncapi):
    """Each field of what the daemon sends says what it means."""
    for name in asyncapi["channels"]["ws"]["messages"]:
        schema = asyncapi["components"]["messages"][name]["payload"]["$ref"].rpartition("/")[2]
        found = asyncapi["components"]["schemas"][schema]
        assert found["description"]
        if name in {kind.__name__ for kind in documents.COMMANDS}:
            continue
        for field, each in found["properties"].items():
            assert field == "type" or "description" in each or "$ref" in each, (name, field)


def test_tables_of_fields_are_complete(asyncapi):
    """A field that docs/protocol.md explains is one of the message's, with `price` a number."""
    fields = asyncapi["components"]["schemas"]["PriceUpdate"]["properties"]
    rows = table(section("protocol", "### price_update"), "field")
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row["field"])}
    assert named <= fields.keys()
    assert fields["price"]["type"] == fields["bid"]["type"] == "number"
