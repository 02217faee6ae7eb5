# SPDX-License-Identifier: GPL-2.0-only
"""What `make` says of a kernel that the module cannot be built for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check-kernel"
RUSTC = "rustc 9.9.9 (of this test)"

GOOD = {
    "CONFIG_RUST": "y",
    "CONFIG_KPROBES": "y",
    "CONFIG_RUSTC_VERSION_TEXT": f'"{RUSTC}"',
}


def check(folder: Path, config: dict[str, str], metadata: bool = True) -> tuple[int, str]:
    """Runs the script on a build folder with this configuration: its status and what it says."""
    (folder / "include/config").mkdir(parents=True)
    (folder / "rust").mkdir()
    lines = [f"{name}={value}\n" for name, value in config.items()]
    (folder / "include/config/auto.conf").write_text("".join(lines))
    if metadata:
        (folder / "rust/libkernel.rmeta").touch()
    rustc = folder / "rustc"
    rustc.write_text(f"#!/bin/sh\necho '{RUSTC}'\n")
    rustc.chmod(0o755)
    result = subprocess.run(
        [SCRIPT, folder],
        env={"PATH": "/usr/bin:/bin", "RUSTC": str(rustc)},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stderr


def test_a_good_one_is_taken_without_a_word(tmp_path: Path) -> None:
    assert check(tmp_path, GOOD) == (0, "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"CONFIG_RUST": "n"}, "built without Rust"),
        ({"CONFIG_KPROBES": "n"}, "built without kprobes"),
        ({"CONFIG_CFI": "y"}, "CONFIG_CFI"),
        ({"CONFIG_CFI_CLANG": "y"}, "CONFIG_CFI"),
        ({"CONFIG_RUSTC_VERSION_TEXT": '"rustc 1"'}, "it needs the compiler that built the kernel"),
    ],
)
def test_others_are_refused_with_the_reason(
    tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    status, said = check(tmp_path, GOOD | change)
    assert status == 1
    assert reason in said and "What helps:" in said


def test_one_without_metadata_is_refused(tmp_path: Path) -> None:
    status, said = check(tmp_path, GOOD, metadata=False)
    assert status == 1 and "no Rust metadata" in said
