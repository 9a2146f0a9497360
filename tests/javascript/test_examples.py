"""docs/examples and the code on docs/javascript.md: each runs against the daemon."""

import asyncio
import json
import re
import shutil

import pytest
from javascript.far import LIBRARY, NODE_OPTIONS, PATIENCE_S, ROOT

EXAMPLES = ROOT / "docs/examples"
PAGE = ROOT / "docs/javascript.md"
PRINTS = {
    "price_tracking.js": r"▲ bitcoinprice BTC/USDT \d+\.\d+",
    "order_book_monitor.js": r"BTC/USDT bid \d+\.\d{8} ask \d+\.\d{8} spread [\d.]+ .* %\)",
    "comparison.js": r"low \w+ [\d.]+ .* high \w+ [\d.]+ .* spread [\d.]+ = [\d.]+ bp of [34]",
}
BLOCKS = re.findall(r"^```js prints (.*)\n([^`]*)^```", PAGE.read_text("utf-8"), re.MULTILINE)


@pytest.fixture
async def demo(start, site):
    """Run `aggregator demo`, for pages of the test's site as well; return its address."""
    origins = {"AGGREGATOR_SERVER__ALLOWED_ORIGINS": json.dumps([site])}
    daemon = await start("demo", "--port", "0", environ=origins)
    await daemon.logged(r"feed \w+ live", times=8)
    return await daemon.url()


async def prints(pattern, *command):
    """Run a program until it prints a line like that."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    lines = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for line in process.stdout:
                lines.append(line.decode())
                if re.search(pattern, lines[-1]):
                    return
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    raise AssertionError("".join(lines))


def test_every_example_is_run():
    """Each is in the table above, or is a page."""
    scripts = {path.name for path in EXAMPLES.glob("*.js")}
    assert scripts == set(PRINTS)
    assert {path.name for path in EXAMPLES.glob("*.html")} == {"live_chart.html"}


@pytest.mark.parametrize("name", PRINTS)
async def test_example(needs, demo, name):
    """It prints what it is for."""
    await prints(PRINTS[name], needs("node"), *NODE_OPTIONS, EXAMPLES / name, demo)


async def test_the_live_chart(browser, demo, site):
    """In a browser it draws a line through the prices that come, and shows the last one."""
    page = await browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    host = re.search(r"//(.*)/ws", demo)[1]

    await page.goto(f"{site}/live_chart.html?daemon={host}")
    drawn = "() => document.getElementById('line').getAttribute('points')?.split(' ').length > 5"
    await page.wait_for_function(drawn)
    assert re.fullmatch(r"\d+(\.\d+)?", await page.text_content("#price"))
    assert await page.text_content("#title") == "okx BTC/USDT"
    assert await page.text_content("#state") == "open"
    assert errors == []


@pytest.mark.parametrize(("pattern", "text"), BLOCKS, ids=[pattern for pattern, _ in BLOCKS])
async def test_the_code_of_the_page(needs, demo, tmp_path, pattern, text):
    """As written but for the port, each block prints what stands behind its language."""
    shutil.copy(LIBRARY, tmp_path / "client.js")
    (tmp_path / "package.json").write_text('{"type":"module"}')
    script = tmp_path / "page.js"
    script.write_text(text.replace("127.0.0.1:8000", re.search(r"//(.*)/ws", demo)[1]))
    await prints(pattern, needs("node"), *NODE_OPTIONS, script)


def test_the_page_is_complete():
    """Every option, event, state and counter of the client is on it, with its default."""
    assert len(BLOCKS) == PAGE.read_text("utf-8").count("```js")
    page, library = PAGE.read_text("utf-8"), LIBRARY.read_text("utf-8")
    named = set(re.findall(r"`([^`\n]+)`", page))

    def documented(typedef):
        [body] = re.findall(rf"@typedef \{{object\}} {typedef}\n(.*?)\*/", library, re.DOTALL)
        return set(re.findall(r"@property \{.*?\} \[?(\w+)", body))

    options = documented("ClientOptions") | documented("SubscribeOptions")
    assert options <= named
    assert documented("Events") <= named
    [states] = re.findall(r'@property \{("connecting".*?)\} name', library)
    assert set(re.findall(r'"(\w+)"', states)) <= named
    [counters] = re.findall(r"stats = \{ (.*?) \};", library)
    assert set(re.findall(r"(\w+):", counters)) <= named
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, re.MULTILINE))
    assert rows.keys() == options
    code = re.sub(r"/\*.*?\*/", "", library, flags=re.DOTALL)
    code = re.sub(r"(?<=\d)_(?=\d)", "", code)
    for name, default in rows.items():
        given = re.search(rf"\b{name}(?::| =) (.+?)(?:,\n|, | \}})", code)
        assert given is None or given[1] == default, name


def test_the_links_of_the_page():
    """Each leads to a file of the project."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / target).exists(), target
