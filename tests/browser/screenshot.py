# SPDX-License-Identifier: GPL-2.0-only
"""Takes a picture of a trace's page in a browser: `tests/browser/run screenshot TRACE OUT.png`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import FLAGS, Plot
from playwright.sync_api import sync_playwright

SIZE = {"width": 1280, "height": 800}


def main() -> None:
    trace, out = (Path(argument).resolve() for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "page.html"
        command = [os.environ["FAULT_TRACER"], "plot", trace, "-o", page_file, "--trends"]
        subprocess.run(command, check=True)
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=list(FLAGS), headless=True
        )
        page = browser.new_page(viewport=SIZE, device_scale_factor=1.5)
        page.goto(f"file://{page_file}")
        Plot(page, []).ready()
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main()
