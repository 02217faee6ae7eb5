#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Writes the output of the examples anew into the documents that show it.

    tests/readme/renew_examples.py [DOCUMENT…]

Of all documents, or of these, it runs the blocks marked "run in the guest, with the examples", in a
guest for each document, and behind them the commands of the document, and puts what these write in
the place of what stands there. The sentences around them stay: read them again.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

# pylint: disable=wrong-import-position
from test_readme import BLOCK, EXAMPLE, PATIENCE, documents, run  # noqa: E402

# A block of commands and what they wrote.
SHOWN = re.compile(r"^```\n(\$ .*?)^```$", re.M | re.S)


def script(block: str, commands: list[str], place: str) -> str:
    """What runs a block, and each command with its output in a file."""
    lines = ["set -eu", f"mkdir {place}", f"cd {place}", block]
    for number, command in enumerate(commands):
        lines.append(f"eval {shlex.quote(command)} >/share{place}-{number} 2>&1")
    return "\n".join(lines) + "\n"


def renewed(text: str, outputs: list[str]) -> str:
    """The document with those outputs, in the order of its commands."""
    left = iter(outputs)

    def blocks(shown: re.Match[str]) -> str:
        parts = [f"$ {command}\n{next(left)}" for command in EXAMPLE.findall(shown[1])]
        return "```\n" + "\n".join(parts).rstrip("\n") + "\n```"

    return SHOWN.sub(blocks, text)


def main() -> int:
    """Renews all documents; returns the exit status."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        if sys.argv[1:] and document.name not in sys.argv[1:]:
            continue
        marked = [block for with_examples, block in BLOCK.findall(text) if with_examples]
        if not marked:
            continue
        commands = EXAMPLE.findall("".join(SHOWN.findall(text)))
        with tempfile.TemporaryDirectory() as share:
            Path(share, "run").write_text(script("\n".join(marked), commands, "/tmp/examples"))
            Path(share, "tmp").mkdir()
            limit = ["--timeout", str(PATIENCE), "--share", share]
            run("scripts/vm", "run", *limit, "--", "bash", "/share/run")
            files = (Path(share, f"tmp/examples-{number}") for number in range(len(commands)))
            outputs = [re.sub(" +$", "", file.read_text(), flags=re.M) for file in files]
        document.write_text(renewed(text, outputs), encoding="utf-8")
        print(f"{document}: {len(commands)} examples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
