"""The files of the page, and how they are served."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser

import aiohttp
import pytest
from aiohttp import web

from aggregator.gateway import dashboard

TEXTS = {name: file.body.decode() for name, file in dashboard.files().items()}
OURS = {name: text for name, text in TEXTS.items() if not name.startswith("vendor/")}
VENDORED = {  # by SHA-256, of uPlot 1.6.32
    "vendor/LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "vendor/uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "vendor/uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


@pytest.fixture
async def site():
    """Yield the address of a server that has the page alone."""
    application = web.Application()
    dashboard.add_routes(application.router)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/dashboard/main.js", "text/javascript"),
        ("/dashboard/page.css", "text/css"),
        ("/dashboard/icon.svg", "image/svg+xml"),
        ("/dashboard/vendor/uPlot.iife.min.js", "text/javascript"),
        ("/dashboard/vendor/LICENSE", "text/plain"),
    ],
)
async def test_files_are_served_under_a_strict_policy(site, path, content_type):
    """Each comes whole, with its type, a tag, and the policy; who has it is told so."""
    async with aiohttp.ClientSession() as session:
        async with session.get(site + path) as response:
            assert response.status == 200
            assert response.content_type == content_type
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert response.headers["Cache-Control"] == "no-cache"
            policy = response.headers["Content-Security-Policy"]
            name = path.removeprefix("/dashboard/").removeprefix("/") or "index.html"
            assert await response.read() == (dashboard.FOLDER / name).read_bytes()
            tag = response.headers["ETag"]
        host = site.removeprefix("http://")
        assert policy.split("; ") == [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self' ws://{host} wss://{host}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "form-action 'none'",
        ]
        async with session.get(site + path, headers={"If-None-Match": tag}) as response:
            assert response.status == 304
            assert await response.read() == b""


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/",
        "/dashboard/none.js",
        "/dashboard/vendor",
        "/dashboard/../client.js",
        "/dashboard/..%2fclient.js",
        "/dashboard/%2e%2e/%2e%2e/app.py",
        "/dashboard//main.js",
        "/dashboard/main.js%00",
    ],
)
async def test_nothing_else_is_served(site, path):
    """A name that is no file of the page is not found, wherever it would lead."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(site + path, allow_redirects=False) as response,
    ):
        assert response.status == 404


@pytest.mark.parametrize(
    "host", ["", "a b", "x; script-src *", "x'", "x,y", "[::1", "x:80:90", "é"]
)
def test_a_strange_host_adds_nothing_to_the_policy(host):
    """What comes with the request becomes a part of the policy only where it is a name."""
    assert "connect-src 'self'; base-uri" in dashboard.policy(host)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "prices.example", "[::1]:8000"])
def test_the_sockets_of_a_host_are_in_the_policy(host):
    """Also for browsers that do not count them as its own."""
    assert f"connect-src 'self' ws://{host} wss://{host};" in dashboard.policy(host)


class Page(HTMLParser):
    """What a page refers to, and what stands in it that its policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.references += [v for k, v in attrs if k in {"src", "href"} and not v.startswith("#")]
        self.ids += [given["id"]] if "id" in given else []
        self.inline += [f"{tag} {k}" for k in given if k.startswith("on") or k == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


def test_the_page_refers_to_its_own_files_alone():
    """Every address in it is one of the page's files or the client; nothing stands inline."""
    page = Page()
    page.feed(TEXTS["index.html"])
    assert page.inline == []
    assert {r.removeprefix("dashboard/") for r in page.references} <= {*TEXTS, "client.js"}
    assert len(page.ids) == len(set(page.ids))


def test_every_element_that_is_asked_for_is_there():
    """Each `byId` of the scripts names an element of the page."""
    page = Page()
    page.feed(TEXTS["index.html"])
    for name, text in OURS.items():
        for wanted in re.findall(r'byId\("([^"]+)"\)', text):
            assert wanted in page.ids, f"{name}: {wanted}"


def test_modules_import_what_there_is():
    """Every import is a file that is served, and every module is imported by another."""
    imported = {"main.js", "theme.js"}
    for name, text in OURS.items():
        for path in re.findall(r'from "([^"]+)"', text) if name.endswith(".js") else []:
            assert path == "../client.js" or path.removeprefix("./") in TEXTS, f"{name}: {path}"
            imported.add(path.removeprefix("./"))
    assert {name for name in OURS if name.endswith(".js")} <= imported


def test_it_works_offline():
    """No file of ours has an address of somewhere else; the one in the icon names a vocabulary."""
    for name, text in OURS.items():
        found = re.findall(r"https?://[^\s\"')]+", text)
        assert found in ([], ["http://www.w3.org/2000/svg"]), name
        assert "eval(" not in text
        assert "innerHTML" not in text


def test_what_is_vendored_is_as_it_was_published():
    """The library for charts is unchanged, and comes with its licence."""
    assert {name for name in TEXTS if name not in OURS} == set(VENDORED)
    for name, digest in VENDORED.items():
        assert hashlib.sha256(TEXTS[name].encode()).hexdigest() == digest
    assert "(v1.6.32)" in TEXTS["vendor/uPlot.iife.min.js"][:200]
    assert TEXTS["vendor/LICENSE"].startswith("The MIT License")
