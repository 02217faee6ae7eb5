# SPDX-License-Identifier: GPL-2.0-only
"""What the fault path of the built module calls.

The handler runs on every fault of every process while anything is traced: it must not sleep,
lock, allocate or panic. The module's machine code is looked at, not its source: each call and
jump out of a function is a relocation or names its target.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "build"
MODULES = sorted(BUILD.glob("*+*amd64/fault_tracer.ko"))

ENTRY = "recorder::on_fault"
# The same by the ftrace hook, and where its faults go on that are not plain.
FTRACE_ENTRY = "recorder::on_entry"
FTRACE_GENERAL = "recorder::record_from_ftrace"
# While a session asks for durations.
TIMED_ENTRY = "recorder::on_timed_fault"
RETURN = "recorder::on_return"

# Where all but plain faults go on (`plain.rs` says which those are).
GENERAL = "recorder::record"

# Functions of the module that it may call, none of them by most faults: another session, another
# clock or one that is being adjusted, a ring that is full or crosses the watermark, a mapping seen
# first, a reader to be woken, log=1.
HOT = {
    "recorder::deliver_to_others",
    "recorder::print",
    "clock::other_clock",
    "translation::meaning",
    "clock::by_call",
    "ring::push_with_a_look",
    "ring::evict",
    "ring::look_for_room",
    "ring::drop_fault",
    "sideband::emit_mapping",
    "path::path_of",
    "filter::admits",
    "stack::emit",
    "wake::raise",
}
# Functions of the kernel that it may call.
# `backing_file_user_path` returns a pointer into the file.
KERNEL = {"ktime_get", "__x86_return_thunk", "backing_file_user_path"}

SECTION = re.compile(r"^Disassembly of section (\S+):$")
FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
RELOCATION = re.compile(r"R_X86_64_(?:PLT32|PC32)\s+(\S+?)([-+]0x[0-9a-f]+)?$")
BRANCH = re.compile(r"\b(?:call|jmp|j[a-z]+)\s+[0-9a-f]+ <([^>+]+)(\+0x[0-9a-f]+)?>")
INDIRECT = re.compile(r"\b(?:call|jmp)\s+\*")


def plain(symbol: str) -> str:
    """`recorder::on_fault` for the mangled name of a function of the module; others as they are."""
    if not symbol.startswith("_R"):
        return symbol
    parts = re.findall(r"(?<=[0-9])_?([a-z][a-z_]*)", re.sub(r"Cs[0-9A-Za-z]+_", "", symbol))
    names = [part for part in parts if part != "fault_tracer"]
    if generic := re.match(r"_RI((?:N[a-z])+)Cs[0-9A-Za-z]+_12fault_tracer", symbol):
        # What stands behind the function's path are the types that it is made for.
        path = symbol[generic.end() :]
        names = []
        for _ in range(len(generic.group(1)) // 2):
            length = re.match(r"\d+", path).group()
            path = path[len(length) :]
            names.append(path[: int(length)])
            path = path[int(length) :]
    return "::".join((names[0], names[-1])) if "fault_tracer" in symbol else symbol


def calls_by_function(module: Path) -> dict[str, set[str]]:
    """The functions of a module, by plain name, and whom each calls or jumps to."""
    listing = subprocess.run(
        ["objdump", "-dr", "--no-show-raw-insn", str(module)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # Where the functions begin: some relocations name a place in a section.
    starts: dict[tuple[str, int], str] = {}
    section = ""
    for line in listing.splitlines():
        if found := SECTION.match(line):
            section = found.group(1)
        elif found := FUNCTION.match(line):
            starts[section, int(found.group(1), 16)] = plain(found.group(2))
    calls: dict[str, set[str]] = {}
    current: set[str] = set()
    is_branch = False
    # Whom a branch names. Where a relocation follows, it tells, and the name means nothing.
    named: str | None = None
    for line in listing.splitlines():
        is_relocation = RELOCATION.search(line) is not None
        if named is not None and not is_relocation:
            current.add(named)
        named = None
        if found := FUNCTION.match(line):
            current = calls.setdefault(plain(found.group(2)), set())
        elif found := RELOCATION.search(line):
            symbol, offset = found.group(1), int(found.group(2) or "0", 16)
            if is_branch and symbol.startswith(".text"):
                # The offset counts from the end of the instruction's four-byte operand.
                current.add(starts.get((symbol, offset + 4), f"{symbol}+{offset + 4:#x}"))
            elif is_branch:
                current.add(plain(symbol))
        else:
            is_branch = bool(re.search(r"\t(?:call|jmp|j[a-z]+)\s", line))
            if INDIRECT.search(line):
                current.add("an address in a register or in memory")
            elif (found := BRANCH.search(line)) and found.group(2) is None:
                # A jump within the function has an offset.
                named = plain(found.group(1))
    return calls


@pytest.fixture(params=MODULES, ids=lambda module: module.parent.name)
def calls(request: pytest.FixtureRequest) -> dict[str, set[str]]:
    return calls_by_function(request.param)


def test_there_is_a_module_to_look_at() -> None:
    assert MODULES, f"no module below {BUILD}: build it with scripts/build-modules"


def test_a_fault_of_others_and_a_plain_one_call_nothing(calls: dict[str, set[str]]) -> None:
    assert calls[ENTRY] == {GENERAL, "__x86_return_thunk"}


def test_the_ftrace_hook_lets_others_run_and_calls_nothing_else(calls: dict[str, set[str]]) -> None:
    # It has switched preemption off, and on again: somebody may be waiting for that.
    allowed = {FTRACE_GENERAL, "__x86_return_thunk", "preempt_schedule_notrace"}
    assert calls[FTRACE_ENTRY] == allowed
    assert calls[FTRACE_GENERAL] <= HOT | KERNEL


def test_the_record_of_a_fault_calls_only_what_is_allowed(calls: dict[str, set[str]]) -> None:
    called = calls[GENERAL]
    assert "clock::by_call" in called, "the listing is not read as it should be"
    assert called <= HOT | KERNEL, f"it also calls {sorted(called - HOT - KERNEL)}"


def test_a_fault_with_a_duration_calls_only_what_is_allowed(calls: dict[str, set[str]]) -> None:
    # The one call by address is that of the kernel's handler, which hooks the return.
    indirect = "__x86_indirect_thunk_r11"
    # What the page table has around a file's page is looked at, by loads alone.
    around = "around::write"
    expected = {"recorder::record_timed", indirect, around}
    assert expected <= calls[TIMED_ENTRY] <= HOT | KERNEL | expected
    assert calls[around] <= {"__x86_return_thunk"}
    assert calls["recorder::record_timed"] <= HOT | KERNEL
    look = "ring::push_return_with_a_look"
    called = calls[RETURN]
    assert look in called, "the listing is not read as it should be"
    # What it maps is looked up in the page tables, by loads alone.
    page = "latency::page_and_folio"
    filled = "around::filled"
    assert page in called and calls[page] == {filled, "__x86_return_thunk"}
    assert calls[filled] <= {"__x86_return_thunk"}
    others = called - HOT - KERNEL - {look, page}
    assert not others, f"it also calls {sorted(others)}"


def test_a_stack_is_read_without_waiting(calls: dict[str, set[str]]) -> None:
    called = calls["stack::emit"]
    read = {"__get_user_8"}
    room = {"ring::evict", "ring::look_for_room"}
    assert read <= called, "the listing is not read as it should be"
    assert called <= room | read | {"__x86_return_thunk"}, called


def test_nothing_on_the_way_can_panic(calls: dict[str, set[str]]) -> None:
    # Printing goes through the formatting machinery of the kernel; it is asked for by log=1 alone.
    others = {
        ENTRY,
        FTRACE_ENTRY,
        FTRACE_GENERAL,
        GENERAL,
        TIMED_ENTRY,
        RETURN,
        "ring::push_side",
        "path::print_path",
        "path::put_name",
        "path::print_last_part",
        "filter::admits_mapping",
    }
    assert "path::print_path" in calls, "the listing is not read as it should be"
    for function in others | HOT - {"recorder::print"}:
        for called in calls.get(function, set()):
            assert "panic" not in called and "unwrap_failed" not in called, (function, called)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.parent.name)
def test_the_listing_follows_a_plain_fault_to_its_end(module: Path) -> None:
    script = BUILD.parent / "benchmark" / "fault-path-listing"
    listing = subprocess.run([script, module], check=True, capture_output=True, text=True).stdout
    counts = {
        name: int(count) for name, count in re.findall(r"^\| ([\w -]+) \| (\d+) \|$", listing, re.M)
    }
    instructions = re.findall(r"^ +\d+  \+[0-9a-f]{3}  ", listing, re.M)
    assert len(instructions) == sum(counts.values()) > 50
    assert all(counts.values()), counts
