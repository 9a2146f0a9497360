"""A page of the dashboard in a browser, watched for what no page should do."""

from __future__ import annotations

import re
from typing import Any

PATIENCE_MS = 30_000
WATCH = """
globalThis.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  globalThis.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""
"""Run before the page's own scripts: what its policy has kept from being done."""
WHILE_AWAY = r"WebSocket connection to|Failed to load resource"
"""What the browser itself says of a daemon that is not there, or does not let it in."""


class Screen:
    """
    One page.

    Attributes:
        page: that of Playwright.
        faults: errors that nobody caught, and what was written to the console as one.
        excused: what the browser may write there, since the test has it happen.

    """

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.faults: list[str] = []
        self.excused = "$^"
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.type}: {message.text}")

    async def open(self, view: str = "") -> None:
        """Load a view, from nothing."""
        await self.page.add_init_script(WATCH)
        await self.page.goto(f"{self.url}/#{view}")

    async def go(self, view: str) -> None:
        """Go to another view as a link does."""
        await self.page.evaluate("(view) => { location.hash = view; }", view)

    async def until(self, condition: str, *values: object) -> None:
        """Wait until this JavaScript holds of the page; `v` is what is given besides."""
        await self.page.wait_for_function(f"(v) => {{ return {condition}; }}", arg=list(values))

    async def says(self, selector: str, text: str) -> None:
        """Wait until an element's text contains this."""
        condition = "[...document.querySelectorAll(v[0])].some((e) => e.textContent.includes(v[1]))"
        await self.until(condition, selector, text)

    async def text(self, selector: str) -> str:
        return await self.page.locator(selector).first.text_content()

    async def count(self, selector: str) -> int:
        return await self.page.locator(selector).count()

    async def cell(self, instrument: str, venue: str, part: str = "") -> str:
        """Return a selector of a venue's cell in the table, or of a part of it."""
        await self.says(".venue-name", venue)
        names = await self.page.locator(".venue-name").all_text_contents()
        row = f'.row:not([hidden]):has(a[href="#{instrument}"])'
        return f"{row} .cell.venue >> nth={names.index(venue)}" + (f" >> {part}" if part else "")

    async def clean(self) -> list[str]:
        """Return what has gone wrong that is not excused."""
        faults = [fault for fault in self.faults if not re.search(self.excused, fault)]
        return faults + await self.page.evaluate("globalThis.violations")
