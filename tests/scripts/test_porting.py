# SPDX-License-Identifier: GPL-2.0-only
"""docs/porting.md lists what the module needs of a kernel."""

import re
import subprocess
from pathlib import Path

TOP = Path(__file__).parents[2]

# What the kernel calls the structures that the module has under names of its own; where two are
# named, the kernel has one or the other.
NAMES = {
    "RawKprobe": ("kprobe",),
    "RawKretprobe": ("kretprobe",),
    "RawInstance": ("rethook_node", "kretprobe_instance"),
    "RawOps": ("ftrace_ops",),
    "RawProcInfo": ("proc_fs_info",),
    "RawExecState": ("task_exec_state",),
    "ReadBase": ("tk_read_base",),
    "ClockSource": ("clocksource",),
}
# What of return hooks is called otherwise in kernels without rethooks.
OLD_NAMES = {"rh": "rph", "rethook": "rph", "frame": "fp"}
# In no header.
NOT_COMPARED = {"RawMount"}


def rows(text):
    """The rows of all tables."""
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_list_is_that_of_the_source():
    modules = sorted((TOP / "build").glob("*+*amd64/fault_tracer.ko"))
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


def test_what_the_module_asserts_of_structures_is_compared_with_the_kernels_headers():
    asserted = {}
    for file in (TOP / "fault_tracer").rglob("*.rs"):
        text = file.read_text(encoding="utf-8")
        for name, field, offset in re.findall(
            r"assert!\(offset_of!\((\w+), (\w+)\) == (\d+)\);", text
        ):
            asserted.setdefault(name, set()).add((field, int(offset)))
    layout = (TOP / "fault_tracer/layout.c").read_text(encoding="utf-8")
    compared = {}
    for offset, structure, field in re.findall(r"IS_AT\((\d+), (\w+), (\w+)\);", layout):
        compared.setdefault(structure, set()).add((field, int(offset)))
    assert set(asserted) == set(NAMES) | NOT_COMPARED
    for ours, names in NAMES.items():
        for name in names:
            # The same places, by one name or the other.
            known = {(OLD_NAMES.get(field, field), offset) for field, offset in compared[name]}
            own = {(OLD_NAMES.get(field, field), offset) for field, offset in asserted[ours]}
            assert own <= known, (ours, name, own - known)
