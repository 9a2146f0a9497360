"""
The API as documents for tools: OpenAPI 3.1 of HTTP, AsyncAPI 3.0 of the WebSocket.

The schemas are made of the types themselves: messages of `aggregator.messages`, commands of
`protocol`, answers of `answer_types`. Sources: https://spec.openapis.org/oas/v3.1.0,
https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple, get_args

import msgspec
from pydantic import TypeAdapter

from aggregator import __version__
from aggregator.messages import AnyMessage, Error, Message
from aggregator.publications import Publication

from . import answer_types, protocol
from .operators import TestBroadcast
from .queries import HistoryQuery

Schema = dict[str, Any]
SCHEMAS = "#/components/schemas/"
DESCRIPTION = "Market data of many exchanges on one WebSocket. What it all means: docs/protocol.md."
COMMANDS = (protocol.Subscribe, protocol.Unsubscribe, protocol.Ping, protocol.Auth)


class Operation(NamedTuple):
    """A request that is answered: of the last value of `types`, with any of its `errors`."""

    method: str
    path: str
    summary: str
    answer: type
    errors: tuple[int, ...] = ()
    status: int = 200
    for_operators: bool = False


OPERATIONS = (
    Operation("get", "/healthz", "Whether the daemon is alive.", answer_types.Health),
    Operation("get", "/readyz", "Whether every feed is live; else 503.", answer_types.Readiness),
    Operation("get", "/channels", "The channels, and how they are.", answer_types.Channels),
    Operation("get", "/why/{channel}", "Why a channel is as it is.", answer_types.Why, (404,)),
    Operation("get", "/latest/{channel}", "Its last values.", answer_types.Latest, (404,)),
    Operation(
        "get",
        "/latest/{channel}/{instrument}",
        "The last value of one instrument; its slash may stay as it is.",
        Message,
        (404,),
    ),
    Operation(
        "get",
        "/history/{channel}",
        "What was published lately, oldest first.",
        answer_types.History,
        (400, 404),
    ),
    Operation(
        "post",
        "/ws/test",
        "Send a message to every connected client.",
        answer_types.TestResponse,
        (400, 401, 403, 408, 413, 415),
        for_operators=True,
    ),
    Operation(
        "post",
        "/publish",
        "Publish an event of an engine of your own.",
        answer_types.PublishResponse,
        (400, 401, 403, 408, 409, 413, 415),
        for_operators=True,
    ),
    Operation(
        "post",
        "/feeds/{name}/rotate",
        "Replace the connection of a streamed feed, with nothing lost.",
        answer_types.RotateResponse,
        (401, 403, 404, 409),
        202,
        for_operators=True,
    ),
)
"""What is answered in JSON, but for the two documents themselves."""
BODIES = {"/ws/test": TestBroadcast, "/publish": Publication}
FOR_READERS = (
    "/channels",
    "/why/{channel}",
    "/latest/{channel}",
    "/latest/{channel}/{instrument}",
    "/history/{channel}",
)
WITH_TAG = ("/latest/", "/history/")
_REFERENCE = re.compile(f'"{SCHEMAS}([^"]+)"')


@cache
def schemas() -> dict[str, Schema]:
    """Return the schemas of all messages, commands and answers, by the name of each type."""
    answers = [each.answer for each in OPERATIONS if each.answer is not Message]
    structs = [*get_args(AnyMessage), *answers, answer_types.ShortAnswer]
    _, found = msgspec.json.schema_components(structs, ref_template=SCHEMAS + "{name}")
    asked: list[Any] = [*COMMANDS, protocol.ShortForm, *BODIES.values()]
    for kind in asked:
        schema = TypeAdapter(kind).json_schema(ref_template=SCHEMAS + "{model}")
        found |= schema.pop("$defs", {})
        found[kind.__name__] = schema
    for schema in found.values():
        _make_numbers(schema)
    # As every tool understands it; `prefixItems` is newer than AsyncAPI's JSON Schema.
    text = {"type": "string"}
    found["Level"] |= {"items": text, "minItems": 2, "maxItems": 2}
    del found["Level"]["prefixItems"]
    found["Message"] = {"oneOf": [{"$ref": SCHEMAS + k.__name__} for k in get_args(AnyMessage)]}
    return found


def _make_numbers(schema: Schema) -> None:
    """Let the decimals of an envelope be numbers, as they are in JSON; in `data` they are text."""
    envelope = "enum" in schema.get("properties", {}).get("type", ())
    for field in schema.get("properties", {}).values():
        if field.get("default", 0) is None:
            del field["default"]
        if envelope and '"decimal"' in msgspec.json.encode(field).decode():
            for key in ("anyOf", "format"):
                field.pop(key, None)
            field["type"] = "number"


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": {"$ref": SCHEMAS + schema}}}


@cache
def openapi() -> Schema:
    """Return the document of HTTP."""
    paths: dict[str, Schema] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method] = _operation(each)
    described = {"description": "What Prometheus reads.", "content": {"text/plain": {}}}
    metrics = {"summary": "The metrics.", "operationId": "metrics", "responses": {"200": described}}
    script = {"description": "A module.", "content": {"text/javascript": {}}}
    client = {"summary": "The client.", "operationId": "client", "responses": {"200": script}}
    html = {"description": "A page.", "content": {"text/html": {}}}
    page = {"summary": "The dashboard.", "operationId": "dashboard", "responses": {"200": html}}
    name = {"name": "file", "in": "path", "required": True, "schema": {"type": "string"}}
    found = {
        "200": {"description": "A script, a style or a picture.", "content": {"*/*": {}}},
        "404": {"description": "A refusal.", "content": _json(Error.__name__)},
    }
    part = {
        "summary": "Its files.",
        "operationId": "dashboard_file",
        "parameters": [name],
        "responses": found,
    }
    pages: Schema = {"/": {"get": page}, "/dashboard/{file}": {"get": part}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "aggregator", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths | pages | {"/metrics": {"get": metrics}, "/client.js": {"get": client}},
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(each: Operation) -> Schema:
    names = [part[1:-1] for part in each.path.split("/") if part.startswith("{")]
    text = {"type": "string"}
    parameters: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in names
    ]
    responses: dict[str, Schema] = {
        str(each.status): {
            "description": each.summary,
            "content": _json(each.answer.__name__),
        }
    }
    if each.path == "/readyz":
        responses["503"] = {"description": "Not all are.", "content": _json("Readiness")}
    wrong_token = {401, 429} if each.for_operators or each.path in FOR_READERS else set()
    for status in sorted({*each.errors, *wrong_token}):
        responses[str(status)] = {"description": "A refusal.", "content": _json(Error.__name__)}
    if each.path.startswith(WITH_TAG):
        parameters.append({"name": "If-None-Match", "in": "header", "schema": text})
        responses["304"] = {"description": "As the client has it."}
    if each.path.startswith("/history/"):
        fields = HistoryQuery.model_json_schema()["properties"]
        parameters += [{"name": n, "in": "query", "schema": s} for n, s in fields.items()]
    words = [part.strip("{}") for part in each.path.split("/") if part]
    operation: Schema = {
        "summary": each.summary,
        "operationId": "_".join([each.method, *words]),
        "parameters": parameters,
        "responses": responses,
    }
    if body := BODIES.get(each.path):
        operation["requestBody"] = {"required": True, "content": _json(body.__name__)}
    if each.for_operators:
        # On loopback without a token, too.
        operation["security"] = [{"token": []}, {}]
    elif each.path in FOR_READERS:
        # Where `server.anonymous` is off.
        operation["security"] = [{}, {"token": []}]
    return operation


def asyncapi(host: str, protocol: str = "ws") -> Schema:
    """
    Return the document of the WebSocket.

    Args:
        host: where the daemon is reached, with its port.
        protocol: `ws` or `wss`.

    """
    server = {"host": host or "127.0.0.1:8000", "protocol": protocol}
    return {**_asyncapi(), "servers": {"daemon": server}}


@cache
def _asyncapi() -> Schema:
    sent = [kind.__struct_config__.tag for kind in get_args(AnyMessage)]
    commands = [kind.__name__ for kind in COMMANDS]
    messages = {
        kind.__struct_config__.tag: _message(kind.__struct_config__.tag, kind.__name__)
        for kind in get_args(AnyMessage)
    }
    messages |= {name: _message(name, name) for name in (*commands, "ShortForm", "ShortAnswer")}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "aggregator", "version": __version__, "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {
            "ws": _channel("/ws", "Everything.", [*sent, *commands]),
            "ticker": _channel(
                "/ws/ticker", "The short form.", [*sent, "ShortForm", "ShortAnswer"]
            ),
        },
        "operations": {
            "command": _direction("receive", "ws", commands),
            "publish": _direction("send", "ws", sent),
            "shortCommand": _direction("receive", "ticker", ["ShortForm"]),
            "shortPublish": _direction("send", "ticker", [*sent, "ShortAnswer"]),
        },
        "components": {"messages": messages, "schemas": _needed(messages)},
    }


def _needed(messages: dict[str, Schema]) -> dict[str, Schema]:
    """Return the schemas that messages refer to, and those that these do."""
    needed: dict[str, Schema] = {}
    new: object = messages
    while names := set(_REFERENCE.findall(msgspec.json.encode(new).decode())) - needed.keys():
        new = {name: schemas()[name] for name in sorted(names)}
        needed |= new
    return needed


def _message(name: str, schema: str) -> Schema:
    return {"name": name, "payload": {"$ref": SCHEMAS + schema}}


def _channel(address: str, summary: str, names: list[str]) -> Schema:
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
    return {"address": address, "summary": summary, "messages": messages}


def _direction(action: str, channel: str, names: list[str]) -> Schema:
    """Return an operation; `receive` is what the daemon receives."""
    messages = [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": messages,
    }
