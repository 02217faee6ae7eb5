# SPDX-License-Identifier: GPL-2.0-only
"""Measures pages of synthetic traces: `tests/browser/run measure FAULTS…` prints a row for each."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conftest import FLAGS, Plot
from playwright.sync_api import sync_playwright

FRAMES = 40
# Windows of the frames, as parts of the recording: where from, how long, by i from 0 to 1.
MOVES = {
    "pan, all": "[0, 1]",
    "pan, a quarter": "[0.1 + 0.5 * i, 0.25]",
    "pan, 1:400": "[0.3 + 0.1 * i, 0.0025]",
    "zoom in": "[0.5 - 0.5 * 0.002 ** i, 0.002 ** i]",
}
HEAD = (
    "| faults | built s (CPU s) | MiB | HTML MB | bytes a fault | first data s | all s | "
    + " | ".join(f"{move} ms" for move in MOVES)
    + " | at rest ms | sum of all s | renderer MiB, moved / summed up |"
)


def frames(plot: Plot, window: str) -> str:
    """Draw frames while the window moves; return their median time, and CPU time a frame."""
    session = plot.page.context.new_cdp_session(plot.page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def cpu() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "ThreadTime")

    start = cpu()
    times = plot.page.evaluate(
        f"""() => {{
            const f = window.faultTracer, n = f.M.span + 1, times = [];
            for (let k = 0; k < {FRAMES}; k++) {{
                const i = k / {FRAMES - 1};
                const [from, length] = {window};
                f.setTime(from * n, (from + length) * n);
                times.push(f.drawNow());
            }}
            return times;
        }}"""
    )
    each = 1000 * (cpu() - start) / FRAMES
    return f"{sorted(times)[FRAMES // 2]:.1f} ({each:.1f})"


def renderer_mib() -> int:
    """Give what the biggest renderer of this machine holds."""
    held = [0]
    for process in Path("/proc").glob("[0-9]*"):
        # One may have ended meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "--type=renderer" in (process / "cmdline").read_text():
                status = (process / "status").read_text()
                held.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024)
    return max(held)


def measure(faults: int, folder: Path) -> str:
    trace, page_file = folder / "faults.arrow", folder / "faults.html"
    subprocess.run(
        [os.environ["SYNTHETIC"], trace, "program", str(faults)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    start = time.monotonic()
    command = [os.environ["FAULT_TRACER"], "plot", trace, "-o", page_file]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"plot failed with {process.returncode}")
    built = time.monotonic() - start
    cpu = usage.ru_utime + usage.ru_stime
    size = page_file.stat().st_size
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=list(FLAGS), headless=True
        )
        page = browser.new_page(viewport={"width": 1400, "height": 860})
        start = time.monotonic()
        page.goto(f"file://{page_file}", wait_until="commit")
        plot = Plot(page, []).ready()
        read = time.monotonic() - start
        first = plot.js("f.firstData") / 1000
        moves = [frames(plot, window) for window in MOVES.values()]
        plot.js("f.setTime(0, f.M.span + 1)")
        plot.ready()
        rest = plot.js("Math.min(f.drawNow(), f.drawNow(), f.drawNow())")
        moved = renderer_mib()
        start = time.monotonic()
        assert plot.faults_in_window() == faults
        summed = time.monotonic() - start
        held = renderer_mib()
        browser.close()
    return (
        f"| {faults:,} | {built:.1f} ({cpu:.1f}) | {usage.ru_maxrss // 1024} "
        f"| {size / 1e6:.1f} | "
        f"{size / faults:.2f} | {first:.1f} | {read:.1f} | "
        + " | ".join(moves)
        + f" | {rest:.1f} | {summed:.1f} | {moved} / {held} |"
    )


def main() -> None:
    print(HEAD)
    print("|" + " ---: |" * (HEAD.count("|") - 1))
    for argument in sys.argv[1:] or ["1000000"]:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(int(argument), Path(folder)), flush=True)


if __name__ == "__main__":
    main()
