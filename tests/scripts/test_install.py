# SPDX-License-Identifier: GPL-2.0-only
"""`make install` and `make uninstall`: what is there, that it works, and that nothing stays."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PREFIX = "opt/ft"


def make(target: str, root: Path) -> None:
    """Runs a target of the Makefile."""
    subprocess.run(
        ["make", "-s", target, f"DESTDIR={root}", f"PREFIX=/{PREFIX}"],
        cwd=TOP,
        check=True,
        capture_output=True,
    )


def files(root: Path) -> set[str]:
    """All files below a folder."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module", name="installed")
def fixture_installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    make("install", root)
    return root


def run(*command: str | Path) -> str:
    """What a command says. It must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def subcommands(installed: Path) -> list[str]:
    """Those that the help names."""
    said = run(installed / PREFIX / "bin/fault-tracer", "--help")
    table = said.split("Commands:\n")[1].split("\n\n")[0]
    return [name for name in re.findall(r"^  (\w+)", table, re.M) if name != "help"]


def test_the_installed_tool_runs(installed: Path) -> None:
    version = run(installed / PREFIX / "bin/fault-tracer", "--version")
    workspace = (TOP / "userspace/Cargo.toml").read_text()
    number = re.search(r'^version = "(.+)"$', workspace, re.M)
    assert number and version == f"fault-tracer {number[1]}\n"


def test_each_subcommand_has_a_page_of_the_manual(installed: Path) -> None:
    folder = installed / PREFIX / "share/man/man1"
    names = subcommands(installed)
    assert len(names) > 10
    pages = {"fault-tracer.1"} | {f"fault-tracer-{name}.1" for name in names}
    assert {page.name for page in folder.iterdir()} == pages
    run("mandoc", "-Tlint", "-W", "error", *folder.iterdir())
    record = run("mandoc", "-Tascii", "-Ios=x", folder / "fault-tracer-record.1")
    assert "Examples:" in re.sub(".\b", "", record)


def test_the_shells_take_their_completions(installed: Path) -> None:
    share = installed / PREFIX / "share"
    bash = share / "bash-completion/completions/fault-tracer"
    said = run("bash", "--norc", "-c", f". {bash} && complete -p fault-tracer")
    assert said.strip().endswith("fault-tracer")
    run("zsh", "-n", share / "zsh/site-functions/_fault-tracer")
    run("fish", "--no-execute", share / "fish/vendor_completions.d/fault-tracer.fish")
    for name in subcommands(installed):
        assert name in bash.read_text()


def test_the_device_belongs_to_a_group(installed: Path) -> None:
    lib = installed / PREFIX / "lib"
    rule = (lib / "udev/rules.d/60-fault-tracer.rules").read_text()
    assert 'KERNEL=="fault_tracer"' in rule and 'GROUP="fault-tracer"' in rule
    group = (lib / "sysusers.d/fault-tracer.conf").read_text()
    assert "\ng fault-tracer -" in group


def test_the_flight_recorder_is_started_where_it_was_installed(installed: Path) -> None:
    unit = (installed / PREFIX / "lib/systemd/system/fault-tracer.service").read_text()
    [start] = re.findall(r"^ExecStart=(\S+) (.*)$", unit, re.MULTILINE)
    assert start[0] == f"/{PREFIX}/bin/fault-tracer" and "--on-demand" in start[1]
    assert (installed / start[0].lstrip("/")).is_file()
    assert "@" not in "".join(line for line in unit.splitlines() if not line.startswith("#"))


def test_nothing_stays_and_nobody_elses_goes(tmp_path: Path) -> None:
    others = tmp_path / PREFIX / "bin/other"
    others.parent.mkdir(parents=True)
    others.touch()
    make("install", tmp_path)
    assert len(files(tmp_path)) > 15
    make("uninstall", tmp_path)
    assert files(tmp_path) == {f"{PREFIX}/bin/other"}


def test_the_source_for_dkms_is_whole(tmp_path: Path) -> None:
    subprocess.run(
        ["scripts/install", "dkms-source"],
        cwd=TOP,
        env={**os.environ, "DESTDIR": str(tmp_path)},
        check=True,
    )
    [folder] = (tmp_path / "usr/src").iterdir()
    version = folder.name.removeprefix("fault-tracer-")
    assert f'PACKAGE_VERSION="{version}"' in (folder / "dkms.conf").read_text()
    sources = [TOP / "Kbuild", TOP / "fault_tracer.rs"]
    for part in ["fault_tracer", "uapi"]:
        sources += [*(TOP / part).rglob("*.rs"), *(TOP / part).rglob("*.h")]
    for source in sources:
        assert (folder / source.relative_to(TOP)).read_bytes() == source.read_bytes()
    for script in ["scripts/check-kernel", "packaging/dkms-prepare"]:
        assert os.access(folder / script, os.X_OK)
