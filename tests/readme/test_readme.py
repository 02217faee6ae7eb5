#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs what the documents tell people to run, but for `make demo` and `make test` themselves.

    tests/readme/test_readme.py [RESULTS.xml] [FILTER…]

 - the blocks marked "run in the guest" of each document, as they stand, in the sandbox; behind one
   marked "with the examples" also each command that the document shows with its output;
 - `make`, `make modules_install` and `make clean` against a kernel that has Rust, on a copy of the
   checkout in the build root, and `make` against one that has not;
 - that the files that documents link to exist.

The last line is `N passed, N failed`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))

# pylint: disable=wrong-import-position
from harness.junit import Case, Results  # noqa: E402

BLOCK = re.compile(
    r"^<!-- run in the guest(, with the examples)? -->\n```sh\n(.*?)^```$", re.M | re.S
)
EXAMPLE = re.compile(r"^\$ (.+)$", re.M)
# It becomes a part of a document elsewhere, whose links it has.
PART_OF = {"benchmark/notes.md": "docs/benchmarks.md"}
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
# What hangs for so many seconds hangs for ever, on any machine.
PATIENCE = 3600

IN_THE_GUEST = """
set -eu
cp "$(modinfo -n fault_tracer)" /tmp/fault_tracer.ko
for block in /share/block-*.sh; do
    name=${block##*/}
    mkdir "/tmp/$name.folder"
    cp /tmp/fault_tracer.ko "/tmp/$name.folder"
    cd "/tmp/$name.folder"
    status=0
    bash -eux "$block" >"/share/$name.log" 2>&1 || status=$?
    echo "$status" >"/share/$name.status"
    ! lsmod | grep -q '^fault_tracer' || rmmod fault_tracer
    cd /
done
dmesg >/share/dmesg
"""


def documents() -> list[Path]:
    """The documents of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=TOP,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    return [TOP / name for name in listed]


def run(*command: str, expected: int = 0) -> str:
    """Runs a command, which must end with that status; returns what it wrote."""
    process = subprocess.run(
        command,
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )
    words = " ".join(command)
    assert process.returncode == expected, f"{words}: status {process.returncode}\n{process.stdout}"
    return process.stdout


def links() -> None:
    """Each file that a document links to is there."""
    sources = ((document, str(document.relative_to(TOP))) for document in documents())
    missing = [
        f"{name} links to {link}"
        for document, name in sources
        for link in LINK.findall(document.read_text(encoding="utf-8"))
        if not link.startswith(("http:", "https:", "mailto:"))
        and not ((TOP / PART_OF.get(name, name)).parent / link).exists()
    ]
    assert not missing, "\n".join(missing)


def make_without_rust() -> None:
    """The error against a kernel without Rust names what is missing and the way out."""
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "include", "config")
        configuration.mkdir(parents=True)
        (configuration / "auto.conf").write_text("CONFIG_KPROBES=y\n")
        said = run("make", "modules", f"KDIR={folder}", expected=2)
    assert "CONFIG_RUST is not set" in said and "make demo" in said, said


def make_with_rust() -> None:
    """The module is built, installed and cleaned away."""
    release = run("scripts/vm", "kernels").split()[0]
    copy = TOP / "build" / "readme-copy"
    shutil.rmtree(copy, ignore_errors=True)
    parts = ["Kbuild", "Makefile", "fault_tracer.rs", "fault_tracer", "uapi", "scripts", "sandbox"]
    for part in parts:
        source = TOP / part
        if source.is_dir():
            shutil.copytree(source, copy / part)
        else:
            copy.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / part)
    try:
        run(
            "scripts/vm",
            "build",
            "--",
            "sh",
            "-euxc",
            f"""cd build/readme-copy
            make modules KDIR=/lib/modules/{release}/build
            modinfo ./fault_tracer.ko | grep '^vermagic: *{release} '
            make modules_install KDIR=/lib/modules/{release}/build \\
                INSTALL_MOD_PATH=$PWD/installed DEPMOD=true
            find installed -name 'fault_tracer.ko*' | grep .
            make clean
            ! ls fault_tracer.ko 2>/dev/null""",
        )
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def guest_blocks() -> list[Case]:
    """The marked blocks, each a shell script of its own, all in one guest."""
    cases: dict[str, Case] = {}
    with tempfile.TemporaryDirectory() as share:
        for document in documents():
            text = document.read_text(encoding="utf-8")
            for number, (with_examples, block) in enumerate(BLOCK.findall(text), 1):
                if with_examples:
                    block += "\n".join(EXAMPLE.findall(text)) + "\n"
                name = f"{document.relative_to(TOP)}".replace("/", "-") + f"-{number:02}"
                Path(share, f"block-{name}.sh").write_text(block, encoding="utf-8")
                cases[f"block-{name}.sh"] = Case(name, failure="it did not run")
        assert len(cases) >= 2, "no marked blocks in the documents"
        Path(share, "run").write_text(IN_THE_GUEST)
        said = run(
            "scripts/vm",
            "run",
            "--timeout",
            str(PATIENCE),
            "--share",
            share,
            "--",
            "bash",
            "/share/run",
        )
        for file, case in cases.items():
            status, log = Path(share, f"{file}.status"), Path(share, f"{file}.log")
            if not status.exists():
                case.failure = f"it did not run; the guest said:\n{said}"
            elif status.read_text().strip() == "0":
                case.failure = None
            else:
                case.failure = log.read_text(errors="replace")
        # The log that insmod's block asks for.
        dmesg = Path(share, "dmesg").read_text(errors="replace")
        printed = re.search("fault: process .* address 0x", dmesg) and re.search(
            r"[0-9]+ faults were printed", dmesg
        )
        cases["dmesg"] = Case("the kernel log", failure=None if printed else dmesg[-3000:])
    return list(cases.values())


def test(name: str, function: Callable[[], list[Case] | None]) -> list[Case]:
    """Runs a test, or one that has cases of its own."""
    begin = time.monotonic()
    try:
        cases = function()
    except (AssertionError, OSError, subprocess.SubprocessError) as failure:
        cases = [Case(name, failure=str(failure))]
    return cases or [Case(name, seconds=time.monotonic() - begin)]


def main() -> int:
    """Runs the tests; returns the exit status."""
    words = sys.argv[1:]
    file = Path(words.pop(0)) if words and words[0].endswith(".xml") else None
    tests: dict[str, Callable[[], list[Case] | None]] = {
        "links": links,
        "make without a Rust kernel": make_without_rust,
        "make with a Rust kernel": make_with_rust,
        "blocks in the guest": guest_blocks,
    }
    results = Results()
    for name, function in tests.items():
        if words and not any(word in name for word in words):
            continue
        for case in test(name, function):
            results.cases.append(case)
            print(f"{'ok    ' if case.failure is None else 'FAILED'} {case.name}", flush=True)
            for line in (case.failure or "").splitlines():
                print(f"    | {line}")
    if file:
        results.write(file, "readme")
    print(f"{results.passed} passed, {len(results.failed)} failed")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
