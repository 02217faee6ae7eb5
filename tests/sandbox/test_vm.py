#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Tests of the sandbox itself (scripts/vm, scripts/cargo).

    tests/sandbox/test_vm.py [RESULTS.xml] [FILTER…]

Without a guest: the command line's errors, and that a half-made root is never used. With a guest:
what a command is given and what comes back of it. A guest takes seconds to boot, so each is asked
several things. The machine may be slow or busy: no test judges how long anything takes. The last
line is `N passed, N failed`.
"""

import math
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))

# pylint: disable=wrong-import-position
from harness.junit import Case, Results  # noqa: E402

VM = str(TOP / "scripts" / "vm")
# What hangs for so many seconds hangs for ever, on any machine.
PATIENCE = 1800
# The hash that a root made by the present recipe is stamped with.
RECIPE_HASH = (
    'for part in common namespace host recipe provision; do source "$1/sandbox/$part.bash"; done; '
    "recipe_hash"
)

TESTS = []


def test(function):
    """Registers a test."""
    TESTS.append(function)
    return function


def vm(*arguments, environment=None, stdin=b"", timeout=PATIENCE):
    """Runs scripts/vm and returns the completed process, its output as bytes."""
    return subprocess.run(
        [VM, *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, **(environment or {})},
        timeout=timeout,
        check=False,
    )


def expect(condition, message, process=None):
    """Fails the running test with a message that shows what the process said."""
    if condition:
        return
    if process is not None:
        message += f" (status {process.returncode}; stdout {process.stdout[-500:]!r};"
        message += f" stderr {process.stderr[-1500:].decode(errors='replace')})"
    raise AssertionError(message)


@test
def wrong_command_lines_say_what_to_do():
    for arguments, advice in [
        (["run"], "no command"),
        (["run", "--"], "no command"),
        (["run", "--cpus", "0", "--", "true"], "whole number"),
        (["run", "--cpus", "two", "--", "true"], "whole number"),
        (["run", "--share", "/no/such/folder", "--", "true"], "no folder"),
        (["run", "--nonsense", "--", "true"], "--help"),
        (["run", "--arch", "--", "true"], "amd64 or arm64"),
        (["run", "--arch", "aarch64", "--", "true"], "amd64 or arm64"),
        (["kernels", "--arch", "riscv64"], "--arch arm64"),
        (["kernels", "--all", "--arch", "arm64"], "--arch arm64"),
        (["add"], "arm64"),
        (["frobnicate"], "--help"),
        (["build"], "no command"),
        ([], "Usage"),
    ]:
        process = vm(*arguments)
        expect(process.returncode == 2, f"{arguments} should be refused", process)
        expect(advice.encode() in process.stderr, f"{arguments} should say '{advice}'", process)
        expect(process.stdout == b"", f"{arguments} should print nothing on stdout", process)


@test
def a_shell_finds_the_tools():
    ours, its = pty.openpty()
    with subprocess.Popen([VM, "shell"], stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        said = b""
        typed = False
        try:
            while chunk := os.read(ours, 4096):
                said += chunk
                # At the prompt: what is typed before it may be lost.
                if not typed and b"# " in said:
                    typed = True
                    os.write(ours, b"echo found $(command -v fault-tracer) end\n exit 7\n")
        except OSError:
            pass  # Nobody holds the other end any more.
        os.close(ours)
    expect(process.returncode == 7, f"the shell should end with its status: {said[-500:]!r}")
    found = b"found /checkout/build/bin/fault-tracer end"
    expect(found in said, f"the shell should find the tools: {said[-500:]!r}")


@test
def an_unknown_kernel_is_an_error_that_lists_the_known():
    kernels = vm("kernels").stdout.decode().split()
    expect(kernels, "there should be a kernel")
    for version in ("0.1", kernels[0][:1] + "0"):
        process = vm("run", "--kernel", version, "--", "true")
        expect(process.returncode == 2, f"kernel {version} should be refused", process)
        for kernel in kernels:
            expect(kernel.encode() in process.stderr, f"{kernel} should be listed", process)


@test
def without_guests_of_arm64_one_is_told_how_to_get_them():
    with tempfile.TemporaryDirectory() as cache:
        stamps = pretended_root(cache)
        environment = {"FAULT_TRACER_CACHE": cache}
        process = vm("run", "--arch", "arm64", "--", "true", environment=environment)
        expect(process.returncode == 2, "there is no such guest", process)
        expect(b"scripts/vm add arm64" in process.stderr, "the way should be named", process)
        process = vm("kernels", "--arch", "arm64", environment=environment)
        expect(process.returncode == 0 and process.stdout == b"", "none is no error", process)
        # The plain one is meant unless the other is named.
        (stamps / "arm64-kernels").write_text("1.2.3-arm64\n1.2.3-arm64-16k\n")
        process = vm("kernels", "--arch", "arm64", environment=environment)
        expect(process.stdout == b"1.2.3-arm64\n1.2.3-arm64-16k\n", "both are listed", process)
        process = vm("kernels", "--all", environment=environment)
        expect(process.stdout == b"1.2.3\n", "those of arm64 are apart", process)
        command = ["run", "--arch", "arm64", "--kernel", "1.2.4", "--", "true"]
        process = vm(*command, environment=environment)
        expect(process.returncode == 2, "an unknown kernel should be refused", process)
        expect(b"1.2.3-arm64 1.2.3-arm64-16k" in process.stderr, "both should be named", process)
    with tempfile.TemporaryDirectory() as firmware:
        for name in ("code.fd", "vars.fd"):
            Path(firmware, name).touch()
        process = vm("run", "--arch", "arm64", "--firmware", firmware, "--", "true")
        expect(process.returncode == 2, "there is firmware for amd64 alone", process)
        expect(b"amd64" in process.stderr, "that should be said", process)


def recipe_hash(cache):
    """The hash of the present recipe, as provision.bash computes it."""
    return subprocess.run(
        ["bash", "-c", RECIPE_HASH, "bash", str(TOP)],
        env={**os.environ, "FAULT_TRACER_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def pretended_root(cache):
    """The stamps of a root of the present recipe, with one kernel and nothing else."""
    stamps = Path(cache, "root", "etc", "fault-tracer")
    stamps.mkdir(parents=True)
    (stamps / "kernels").write_text("1.2.3\n")
    Path(cache, "checked").touch()
    (stamps / "recipe").write_text(recipe_hash(cache) + "\n")
    return stamps


@test
def an_interrupted_provisioning_is_never_used_and_is_removed():
    with tempfile.TemporaryDirectory() as cache:
        tools = Path(cache, "tools")
        tools.mkdir()
        # A mmdebstrap that leaves a folder which looks complete, and then is killed.
        stand_in = tools / "mmdebstrap"
        stand_in.write_text(
            "#!/bin/bash\n"
            "for argument; do [[ $argument == */root.new ]] && folder=$argument; done\n"
            'mkdir -p "$folder/etc/fault-tracer"\n'
            f'echo {recipe_hash(cache)} >"$folder/etc/fault-tracer/recipe"\n'
            'echo 0.0.0 >"$folder/etc/fault-tracer/kernels"\n'
            'touch "$folder/made"\n'
            "sleep 1000\n"
        )
        stand_in.chmod(0o755)
        environment = {
            **os.environ,
            "FAULT_TRACER_CACHE": cache,
            "PATH": f"{tools}:{os.environ['PATH']}",
        }
        with subprocess.Popen(
            [VM, "kernels"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            made = Path(cache, "root.new", "made")
            deadline = time.monotonic() + PATIENCE
            while not made.exists():
                expect(time.monotonic() < deadline, "the provisioning should have begun")
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            expect(process.stdout.read() == b"", "an incomplete root should have no kernels")
        root = Path(cache, "root")
        expect(not root.exists(), "an incomplete root should not have the root's name")

        # The next run begins anew, and fails here; what was left is gone.
        stand_in.write_text("#!/bin/bash\necho no archive today >&2\nexit 1\n")
        process = vm("kernels", environment=environment)
        expect(process.returncode == 125, "a failed provisioning should fail", process)
        expect(b"no archive today" in process.stderr, "the log's end should be shown", process)
        expect(b"provision.log" in process.stderr, "the log should be named", process)
        expect(process.stdout == b"", "stdout should be empty", process)
        for name in ("root", "root.new", "root.old"):
            expect(not Path(cache, name).exists(), f"{name} should be gone")


@test
def a_root_of_another_recipe_is_made_anew():
    with tempfile.TemporaryDirectory() as cache:
        stamps = pretended_root(cache)
        process = vm("kernels", environment={"FAULT_TRACER_CACHE": cache})
        expect(process.stdout == b"1.2.3\n", "a root of this recipe should be used", process)

        (stamps / "recipe").write_text("0\n")
        tools = Path(cache, "tools")
        tools.mkdir()
        (tools / "mmdebstrap").write_text("#!/bin/bash\nexit 1\n")
        (tools / "mmdebstrap").chmod(0o755)
        path = f"{tools}:{os.environ['PATH']}"
        process = vm("kernels", environment={"FAULT_TRACER_CACHE": cache, "PATH": path})
        expect(process.returncode == 125, "a root of another recipe should not be used", process)
        expect(process.stdout == b"", "stdout should be empty", process)


@test
def a_command_gets_its_arguments_input_and_share_and_its_output_is_alone():
    words = ["a  b", "it's", '"$HOME" `id` $(id) \\', "", "two\nlines", "*", "ä", "--", "-x"]
    script = r"""
        set -e
        cat >/share/input
        printf '%s\0' "$@"
        echo complaint >&2
        cp /share/from-host /share/from-guest
        test ! -w /checkout/scripts/vm
        touch /usr/bin/written-by-guest
        echo to-stderr >/dev/stderr
        exit 42
    """
    data = os.urandom(300_000)
    with tempfile.TemporaryDirectory() as share:
        Path(share, "from-host").write_bytes(data)
        process = vm("run", "--share", share, "--", "sh", "-c", script, "sh", *words, stdin=data)
        expect(process.returncode == 42, "the status should be the command's", process)
        expect(
            process.stdout == b"".join(word.encode() + b"\0" for word in words),
            "the arguments should arrive as they are, and nothing else",
            process,
        )
        expect(
            process.stderr == b"complaint\nto-stderr\n", "stderr should be the command's", process
        )
        expect(Path(share, "input").read_bytes() == data, "standard input should arrive whole")
        expect(Path(share, "from-guest").read_bytes() == data, "the share should be writable")
    root = vm("root").stdout.decode().strip()
    expect(not Path(root, "usr/bin/written-by-guest").exists(), "a guest must not change the root")


@test
def large_output_passes_whole_and_a_closed_pipe_ends_the_guest():
    script = "seq 1 1500000; seq 1 1500000 | md5sum >&2"
    process = vm("run", "--", "sh", "-c", script)
    expect(process.returncode == 0, "seq should succeed", process)
    expected = b"".join(b"%d\n" % number for number in range(1, 1_500_001))
    expect(process.stdout == expected, "11 MB of output should arrive whole")

    with subprocess.Popen([VM, "run", "--", "yes"], stdout=subprocess.PIPE) as process:
        expect(process.stdout.read(2) == b"y\n", "yes should be heard")
        process.stdout.close()
        expect(
            process.wait(PATIENCE) == 141,
            f"a closed pipe should end the guest: {process.returncode}",
        )


@test
def a_panic_is_told_at_once():
    # Were it not reported, the guest would go on for longer than this test waits.
    script = "echo before; echo c >/proc/sysrq-trigger; sleep 100000"
    process = vm("run", "--timeout", "200000", "--", "sh", "-c", script)
    expect(process.returncode == 123, "a panic should give 123", process)
    expect(b"sysrq" in process.stderr.lower(), "the console's end should be shown", process)
    expect(process.stdout == b"before\n", "stdout should be the command's alone", process)


@test
def the_time_limit_ends_the_guest():
    begin = time.monotonic()
    expect(vm("run", "--", "true").returncode == 0, "a guest should boot")
    # Long enough for one more boot, however slow the machine is.
    limit = str(10 + 4 * math.ceil(time.monotonic() - begin))
    process = vm("run", "--timeout", limit, "--", "sh", "-c", "echo begun; sleep 100000")
    expect(process.returncode == 124, "the time limit should give 124", process)
    expect(b"--timeout" in process.stderr, "the time limit should be named", process)
    expect(process.stdout == b"begun\n", "stdout should be the command's alone", process)


@test
def every_kernel_boots_with_its_modules():
    for kernel in vm("kernels").stdout.decode().split():
        script = "uname -r; modprobe loop; nproc"
        process = vm("run", "--kernel", kernel, "--", "sh", "-c", script)
        expect(process.stdout.decode() == f"{kernel}\n2\n", f"{kernel} should boot", process)
        expect(process.returncode == 0, "modules should load", process)


@test
def guests_of_arm64_boot_with_pages_of_their_size():
    """Where they were added."""
    for kernel in vm("kernels", "--arch", "arm64").stdout.decode().split():
        script = "uname -rm; getconf PAGESIZE; modprobe loop; nproc"
        process = vm("run", "--arch", "arm64", "--kernel", kernel, "--", "sh", "-c", script)
        page = 16384 if kernel.endswith("-16k") else 4096
        expected = f"{kernel} aarch64\n{page}\n2\n"
        expect(process.stdout.decode() == expected, f"{kernel} should boot", process)
        expect(process.returncode == 0, "modules should load", process)


@test
def icount_makes_times_repeat():
    # A nanosecond is an instruction: a busy loop takes the same time whenever nothing comes
    # between. The
    # shortest of many has nothing between: interrupts, and the guest's waits for this
    # machine, go by the clock.
    script = """
import os, time
def loop():
    start = time.perf_counter_ns()
    for _ in range(2_000):
        pass
    return time.perf_counter_ns() - start
print(os.cpu_count(), min(loop() for _ in range(300)))
"""
    times = []
    for _ in range(2):
        process = vm("run", "--icount", "--", "python3", "-c", script)
        expect(process.returncode == 0, "the guest should run", process)
        cpus, nanoseconds = process.stdout.split()
        expect(cpus == b"1", "icount means one processor", process)
        times.append(int(nanoseconds))
    expect(abs(times[0] - times[1]) < 0.05 * times[0], f"times should repeat: {times}")


@test
def build_runs_in_the_root_on_the_checkout():
    with tempfile.TemporaryDirectory(dir=TOP, prefix=".sandbox-test-") as folder:
        os.chmod(folder, 0o755)
        script = ". /etc/os-release; pwd; echo $VERSION_CODENAME; touch made; exit 5"
        process = subprocess.run(
            [VM, "build", "--", "sh", "-c", script],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        expect(process.returncode == 5, "the status should be the command's", process)
        expect(process.stdout.decode() == f"{folder}\ntrixie\n", "it should run there", process)
        made = Path(folder, "made")
        expect(made.exists(), "the checkout should be writable")
        expect(made.stat().st_uid == os.getuid(), "its files should be the caller's")


def main():
    """Runs the tests; returns the exit status."""
    words = sys.argv[1:]
    file = Path(words.pop(0)) if words and words[0].endswith(".xml") else None
    if shutil.which("unshare") is None:
        sys.exit("tests/sandbox/test_vm.py: this needs a Linux with unshare")
    if subprocess.run([VM, "provision"], check=False).returncode:
        sys.exit("tests/sandbox/test_vm.py: no sandbox to test")
    results = Results()
    for function in TESTS:
        if words and not any(word in function.__name__ for word in words):
            continue
        begin = time.monotonic()
        case = Case(function.__name__)
        try:
            function()
        except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as failure:
            case.failure = f"{type(failure).__name__}: {failure}"
        case.seconds = time.monotonic() - begin
        results.cases.append(case)
        outcome = "ok  " if case.failure is None else "FAIL"
        print(f"{outcome} {case.name} ({case.seconds:.0f} s) {case.failure or ''}", flush=True)
    if file:
        results.write(file, "sandbox")
    print(f"{results.passed} passed, {len(results.failed)} failed")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
