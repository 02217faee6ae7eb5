# SPDX-License-Identifier: GPL-2.0-only
"""docs/porting.md lists what the module needs of a kernel."""

import subprocess
from pathlib import Path

TOP = Path(__file__).parents[2]


def rows(text):
    """The rows of all tables."""
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_list_is_that_of_the_source():
    modules = sorted((TOP / "build").glob("*/fault_tracer.ko"))
    assert modules, "there is no module: run scripts/build-modules"
    document = (TOP / "docs/porting.md").read_text(encoding="utf-8")
    listed = rows(document.split("<!-- written by scripts/porting-list -->")[1])
    found = rows(
        subprocess.run(
            [TOP / "scripts/porting-list", modules[-1]],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    )
    assert len(found) > 100
    advice = "renew it: scripts/porting-list build/RELEASE/fault_tracer.ko --write"
    assert listed == found, advice
