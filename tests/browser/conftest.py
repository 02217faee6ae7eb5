# SPDX-License-Identifier: GPL-2.0-only
"""Traces, pages and a browser for the tests of the interactive page."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DEADLINE_S = 60


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=list(FLAGS), headless=True
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make the page of a synthetic trace, each once."""
    folder = tmp_path_factory.mktemp("pages")
    made: dict[tuple[str, ...], Path] = {}

    def make(shape: str, faults: int = 0, *options: str) -> Path:
        key = (shape, str(faults), *options)
        if key not in made:
            stem = "-".join(key).replace("/", "")
            trace, page = folder / f"{shape}-{faults}.arrow", folder / f"{stem}.html"
            if not trace.exists():
                count = [str(faults)] if faults else []
                subprocess.run([os.environ["SYNTHETIC"], trace, shape, *count], check=True)
            command = [os.environ["FAULT_TRACER"], "plot", trace, "-o", page, *options]
            subprocess.run(command, check=True)
            made[key] = page
        return made[key]

    return make


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {DEADLINE_S} s")


def legend(evaluate: Callable[..., Any]) -> dict[str, int]:
    """Read the legend's names and counts by what calls a function in the page."""

    def read() -> dict[str, int] | None:
        rows = evaluate(
            "() => [...document.querySelectorAll('#legend button')].map((row) => "
            "[row.querySelector('.name').textContent, row.querySelector('.count').textContent])"
        )
        if not rows or any(count == "…" for _, count in rows):
            return None
        return {name: int(count.replace(",", "")) for name, count in rows}

    return until(read, "the legend has counts")


class Plot:
    """A page in the browser, with what its own program says of it."""

    def __init__(self, page: Page, errors: list[str], trace: Path | None = None) -> None:
        self.page = page
        self.errors = errors
        self.trace = trace

    def js(self, expression: str) -> Any:
        """Evaluate an expression with f, the page's interface for tests."""
        return self.page.evaluate(f"() => {{ const f = window.faultTracer; return {expression}; }}")

    def ready(self) -> Plot:
        """Wait until everything is drawn, at rest."""
        until(
            lambda: self.page.evaluate(
                "() => !!document.getElementById('failure') || !!window.faultTracer?.ready"
            ),
            "the picture is drawn",
        )
        assert not self.page.locator("#failure").count(), self.page.locator("#failure").inner_text()
        # What was changed last may be drawn in the next frame.
        self.page.evaluate("() => new Promise((r) => setTimeout(r, 30))")
        return self if self.js("f.ready") else self.ready()

    def panel(self, label: str) -> int:
        """Return the number of a panel."""
        return self.js(f"f.M.panels.findIndex((panel) => panel.label === {label!r})")

    def place(self, steps: float, panel: int, page: float) -> tuple[float, float]:
        """Return where a time and page are on the screen."""
        x, y = self.js(f"[f.xOf({steps}), f.yOf({panel}, {page})]")
        return x, y

    def bubble(self) -> dict[str, str]:
        """Read the bubble beside the pointer."""
        bubble = self.page.locator("#bubble")
        until(bubble.is_visible, "a bubble is shown")
        keys = bubble.locator("dt").all_inner_texts()
        return dict(zip(keys, bubble.locator("dd").all_inner_texts(), strict=True))

    def legend(self) -> dict[str, int | None]:
        """Read the legend's names and counts."""

        return legend(self.page.evaluate)

    def pixels_that_differ(self) -> tuple[int, int]:
        """Compare with the still picture: how many pixels it paints, and how many differ."""
        return pixels_that_differ(self.page.evaluate, self.trace)

    def sums(self) -> dict[str, str]:
        """Read the summary of a box."""
        until(lambda: self.page.locator("#sums").count(), "the box is summed up")
        keys = self.page.locator("#sums dt").all_inner_texts()
        return dict(zip(keys, self.page.locator("#sums dd").all_inner_texts(), strict=True))

    def faults_in_box(self) -> int:
        """Read how many faults a box has."""
        return int(self.sums()["faults"].replace(",", ""))

    def faults_in_window(self) -> int:
        """Sum up what is shown, and return its faults."""
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("s")
        return self.faults_in_box()

    def box(self, x0: float, y0: float, x1: float, y1: float) -> int:
        """Select a box with the pointer, and return its faults."""
        self.page.keyboard.press("Escape")
        mouse = self.page.mouse
        mouse.move(x0, y0)
        mouse.down(button="right")
        mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
        mouse.move(x1, y1)
        mouse.up(button="right")
        return self.faults_in_box()


SAME = """async (address) => {
    const image = new Image();
    image.src = address;
    await image.decode();
    const seen = document.querySelector("#stage canvas");
    const { width, height } = seen;
    if (image.width !== width || image.height !== height) throw new Error("another size");
    const other = document.createElement("canvas");
    Object.assign(other, { width, height });
    const to = other.getContext("2d");
    to.fillStyle = "#ffffff";
    to.fillRect(0, 0, width, height);
    to.drawImage(image, 0, 0);
    const a = seen.getContext("2d").getImageData(0, 0, width, height).data;
    const b = to.getImageData(0, 0, width, height).data;
    let painted = 0, differ = 0;
    const top = seen.getBoundingClientRect().top - seen.parentElement.getBoundingClientRect().top;
    for (let y = 0; y < height; y++) {
        if (window.faultTracer.panelAt(top + y + 0.5) < 0) continue;
        for (let i = y * width * 4; i < (y + 1) * width * 4; i += 4) {
            if (b[i] + b[i + 1] + b[i + 2] < 765) painted++;
            // Rounded twice where it was mixed with white.
            if ([0, 1, 2].some((k) => Math.abs(a[i + k] - b[i + k]) > 2)) differ++;
        }
    }
    return [painted, differ];
}"""


def still(trace: Path, width: int, height: int) -> str:
    """Draw the still picture with faults on so many pixels; return the address of its image."""
    picture = trace.with_suffix(".svg")
    # Around the faults are names, axes and the strip.
    size = f"{width + 256}x{height + 166}"
    command = [os.environ["FAULT_TRACER"], "plot", trace, "-o", picture, "--size", size]
    subprocess.run(command, check=True)
    return re.search(r'href="(data:image/png;base64,[^"]+)"', picture.read_text())[1]


def pixels_that_differ(evaluate: Callable[..., Any], trace: Path) -> tuple[int, int]:
    """Compare the page with the still picture: the pixels that this paints, and that differ."""
    width, height = evaluate(
        "() => [document.querySelector('#stage canvas')].flatMap((c) => [c.width, c.height])"
    )
    painted, differ = evaluate(SAME, still(trace, width, height))
    return painted, differ


@pytest.fixture
def show(browser: Browser, page_file: Callable[..., Path]) -> Iterator[Callable[..., Plot]]:
    """Open pages of synthetic traces; afterwards none may have failed or asked the network."""
    contexts = []
    plots = []

    def open_page(
        shape: str,
        faults: int = 0,
        *options: str,
        link: str = "",
        wait: bool = True,
        **context_options: Any,
    ) -> Plot:
        file = page_file(shape, faults, *options)
        settings = {"viewport": {"width": 1400, "height": 860}} | context_options
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: line.type == "error" and errors.append(line.text))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:", "blob:"))
            or errors.append(f"request of {request.url}"),
        )
        page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
        page.goto(f"file://{file}{link}")
        plot = Plot(page, errors, file.with_name(f"{shape}-{faults}.arrow"))
        plots.append(plot)
        return plot.ready() if wait else plot

    yield open_page
    found = [error for plot in plots for error in plot.errors]
    for context in contexts:
        context.close()
    assert not found
