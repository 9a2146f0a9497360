"""Node, a browser, and who they talk to."""

from __future__ import annotations

import contextlib

import pytest
from aiohttp import web
from javascript.fake import Fake
from javascript.far import HERE, LIBRARY, ROOT, FarNode, FarPage

SCRIPT = "text/javascript"
POLICY = "default-src 'none'; script-src 'self'; connect-src ws://127.0.0.1:* http://127.0.0.1:*"
"""As strict as a page can be that loads a script and connects."""


@pytest.fixture
async def fake():
    """Yield a daemon that does what the test says."""
    async with Fake().running() as fake:
        yield fake


@pytest.fixture
async def site():
    """Yield the address of a web server: the client, the tests' page, and that of the examples."""
    application = web.Application()

    def serve(path, file, content_type, policy=POLICY):
        async def handler(request):
            del request
            headers = {"Content-Security-Policy": policy}
            text = file if isinstance(file, str) else file.read_text("utf-8")
            return web.Response(text=text, content_type=content_type, headers=headers)

        application.router.add_get(path, handler)

    page = '<!doctype html><title>test</title><script type="module" src="remote_page.mjs"></script>'
    serve("/", page, "text/html")
    serve("/client.js", LIBRARY, SCRIPT)
    for name in ("remote.mjs", "remote_page.mjs"):
        serve(f"/{name}", HERE / name, SCRIPT)
    serve("/live_chart.html", ROOT / "docs/examples/live_chart.html", "text/html", policy="")
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def in_node(needs):
    """Yield a client in Node."""
    far = await FarNode.start(needs("node"))
    yield far
    await far.kill()


@pytest.fixture
async def in_page(browser, site):
    """Yield a client in a page that may do next to nothing else."""
    page = await browser.new_page()
    far = await FarPage.open(page, site)
    yield far
    assert far.errors == []
    with contextlib.suppress(Exception):
        await page.close()


@pytest.fixture(params=["node", "page"])
def far(request):
    """Return a client in Node, then one in a page."""
    return request.getfixturevalue(f"in_{request.param}")
