# SPDX-License-Identifier: GPL-2.0-only
"""Measures the page beside chart libraries that draw the same points.

`tests/browser/run compare FAULTS` prints a row for each. It needs node and npm, which fetches the
libraries into the cache: uPlot, Plotly's scattergl, regl-scatterplot, deck.gl. A library gets the
points ready to be drawn, its page neither reads a trace nor has filters, sums or facts of a fault.
"""

from __future__ import annotations

import base64
import csv
import os
import subprocess
import sys
import tempfile
import time
import zlib
from array import array
from pathlib import Path

from conftest import FLAGS, Plot
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
LIBRARIES = {
    "uplot": "uPlot",
    "plotly": "Plotly scattergl",
    "regl": "regl-scatterplot",
    "deck": "deck.gl ScatterplotLayer",
}
PACKAGES = [
    "@deck.gl/core",
    "@deck.gl/layers",
    "esbuild",
    "plotly.js-gl2d-dist-min",
    "regl-scatterplot",
    "uplot",
]
# Windows as in measure.py: from where on and how long, by i from 0 to 1.
MOVES = {
    "pan, all": "[0.02 * i, 0.98]",
    "pan, a quarter": "[0.1 + 0.5 * i, 0.25]",
    "zoom in": "[0.5 - 0.5 * 0.002 ** i, 0.002 ** i]",
}
FRAMES = 6
HEAD = "| | page MB | first data s | " + " | ".join(f"{move} ms" for move in MOVES) + " |"
# WebGL by the processor.
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def bundle(folder: Path) -> str:
    """Fetch the libraries, and make one script of them."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *PACKAGES]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    script = folder / "compare.js"
    script.write_text((HERE / "compare.js").read_text())
    esbuild = folder / "node_modules/.bin/esbuild"
    options = ["--bundle", "--minify", "--format=iife", "--log-level=error"]
    made = subprocess.run([esbuild, script, *options], check=True, capture_output=True, text=True)
    return made.stdout.replace("</script", "<\\/script")


def points(trace: Path, table: Path) -> dict[str, str]:
    """Give times and addresses from 0 to 1 and accesses as columns of a page."""
    command = [os.environ["FAULT_TRACER"], "export", trace, "-f", "csv", "--bands", "-o", table]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with table.open(newline="") as file:
        rows = [
            (int(row["time_ns"]), int(row["panel"]), int(row["panel_offset"]), row["access"])
            for row in csv.DictReader(file)
            if row["panel"]
        ]
    start, span = rows[0][0], rows[-1][0] - rows[0][0] + 1
    panels = max(panel for _, panel, _, _ in rows) + 1
    most = [1] * panels
    for _, panel, offset, _ in rows:
        most[panel] = max(most[panel], offset)
    columns = {
        "t": array("f", ((time - start) / span for time, _, _, _ in rows)),
        "y": array("f", (1 - (p + 1 - 0.9 * o / most[p]) / panels for _, p, o, _ in rows)),
        "a": array("B", ("rwx".index(access) for _, _, _, access in rows)),
    }
    return {
        name: base64.b64encode(zlib.compress(column.tobytes(), 4)).decode()
        for name, column in columns.items()
    }


def frames(page, show: str) -> list[str]:
    """Give the mean time of the frames of each move."""
    found = []
    for window in MOVES.values():
        ms = page.evaluate(
            f"""async () => {{
                let sum = 0;
                for (let k = 0; k < {FRAMES}; k++) {{
                    const i = k / {FRAMES - 1};
                    const [from, length] = {window};
                    const start = performance.now();
                    await ({show})(from, from + length);
                    sum += performance.now() - start;
                }}
                return sum / {FRAMES};
            }}"""
        )
        found.append(f"{ms:.0f}")
    return found


def ours(browser: Browser, trace: Path, file: Path) -> list[str]:
    """Measure the page of `plot`."""
    command = [os.environ["FAULT_TRACER"], "plot", "-q", trace, "-o", file]
    subprocess.run(command, check=True)
    page = browser.new_page(viewport={"width": 1400, "height": 860})
    page.goto(f"file://{file}", wait_until="commit")
    first = Plot(page, []).ready().js("f.firstData") / 1000
    show = (
        "(from, to) => { const f = window.faultTracer, n = f.M.span + 1;"
        " f.setTime(from * n, to * n); f.drawNow(); }"
    )
    row = [f"{file.stat().st_size / 1e6:.1f}", f"{first:.1f}", *frames(page, show)]
    page.close()
    return row


def theirs(browser: Browser, library: str, script: str, data: dict[str, str], file: Path) -> list:
    """Measure a library."""
    columns = "".join(
        f'<script type="text/plain" id="{name}">{text}</script>' for name, text in data.items()
    )
    file.write_text(
        f'<!doctype html><meta charset="utf-8"><div id="plot"></div>{columns}'
        f'<script>{script}</script>'
    )
    page = browser.new_page(viewport={"width": 1400, "height": 860})
    page.set_default_timeout(600_000)
    start = time.monotonic()
    page.goto(f"file://{file}")
    page.evaluate("(name) => window.begin(name)", library)
    first = time.monotonic() - start
    size = sum(map(len, data.values())) / 1e6
    row = [f"{size:.1f}", f"{first:.1f}", *frames(page, "window.show")]
    page.close()
    return row


def main() -> None:
    print(HEAD)
    print("| --- |" + " ---: |" * (HEAD.count("|") - 2))
    faults = sys.argv[1] if len(sys.argv) > 1 else "1000000"
    script = bundle(Path(os.environ["LIBRARIES"]))
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        trace = folder / "faults.arrow"
        made = [os.environ["SYNTHETIC"], trace, "program", faults]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        data = points(trace, folder / "faults.csv")
        flags = [flag for flag in FLAGS if flag != "--disable-gpu"]
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=[*flags, *WEBGL], headless=True
        )
        rows = {"fault-tracer plot": ours(browser, trace, folder / "ours.html")}
        print(f"| fault-tracer plot | {' | '.join(rows['fault-tracer plot'])} |", flush=True)
        for library, title in LIBRARIES.items():
            row = theirs(browser, library, script, data, folder / f"{library}.html")
            print(f"| {title} | {' | '.join(row)} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
