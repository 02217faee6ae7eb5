# SPDX-License-Identifier: GPL-2.0-only
"""The page in another browser than the one that the other tests use: a small set, in Firefox."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from conftest import legend, pixels_that_differ, until
from firefox import Firefox

SMALL = 20_000
LONE_NS = 20_000_000_000 // 50 + 1
READY = "() => !!window.faultTracer?.ready"


def text(firefox: Firefox, selector: str) -> str:
    """Wait for an element, and read it."""
    return until(
        lambda: firefox.evaluate(
            "(selector) => document.querySelector(selector)?.textContent ?? ''", selector
        ),
        f"{selector} is there",
    )


def test_the_page_in_firefox(page_file: Callable[..., Path], tmp_path: Path) -> None:
    page = page_file("program", SMALL)
    with Firefox(os.environ["FIREFOX"], tmp_path, 1400, 900) as firefox:
        firefox.evaluate("() => {}")
        firefox.goto(f"file://{page}")
        until(lambda: firefox.evaluate(READY), "the picture is drawn")
        assert firefox.evaluate("() => document.getElementById('failure')") is None
        assert sum(legend(firefox.evaluate).values()) == SMALL

        # The same pixels as the still picture.
        trace = page.with_name(f"program-{SMALL}.arrow")
        painted, differ = pixels_that_differ(firefox.evaluate, trace)
        assert painted > 10_000
        assert differ == 0

        # All faults are in the window.
        firefox.press("s")
        assert text(firefox, "#sum-faults") == f"{SMALL:,}"

        # A kind is switched off, and a filter leaves a part.
        firefox.press("c")
        until(lambda: firefox.evaluate(READY), "the picture is drawn")
        assert legend(firefox.evaluate)["swap-in"] == 1000

        # The lone fault under the pointer.
        firefox.evaluate(
            f"() => window.faultTracer.setTime({LONE_NS - 20_000}, {LONE_NS + 20_000})"
        )
        until(lambda: firefox.evaluate(READY), "the picture is drawn")
        for page_of_stack in range(60):
            x, y = firefox.evaluate(
                "(at, page) => { const f = window.faultTracer;"
                " const panel = f.M.panels.findIndex(({ label }) => label === 'main stack');"
                " return [f.xOf(at), f.yOf(panel, page + 0.5)].map(Math.round); }",
                LONE_NS,
                page_of_stack,
            )
            move = {"type": "pointerMove", "x": x, "y": y}
            firefox.point(move, {"type": "pause", "duration": 120})
            shown = firefox.evaluate("() => document.getElementById('bubble').textContent")
            if "0x7ffd12345678" in shown:
                break
        assert "spurious, execute" in shown
        assert "(123,456 ns)" in shown
