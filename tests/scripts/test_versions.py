# SPDX-License-Identifier: GPL-2.0-only
"""The version stands in userspace/Cargo.toml; what must repeat it says the same."""

import re
from pathlib import Path

TOP = Path(__file__).parents[2]


def found(file, pattern):
    """All versions that a file names in that way; there must be some."""
    versions = re.findall(pattern, (TOP / file).read_text(encoding="utf-8"), re.M)
    assert versions, f"{file} names no version"
    return set(versions)


def test_all_versions_are_one():
    own = found("userspace/Cargo.toml", r'^version = "(.*)"$')
    assert len(own) == 1
    [version] = own
    assert re.fullmatch(r"\d+\.\d+\.\d+", version), "versions are semantic"
    assert found("packaging/arch/PKGBUILD", r"^pkgver=(\S+)$") == own
    assert found("packaging/fedora/fault-tracer.spec", r"^Version:\s+(\S+)$") == own
    # The first of these is the newest that was released.
    assert version in found("CHANGELOG.md", r"^## (\d+\.\d+\.\d+)")
    for manifest in (TOP / "userspace").glob("*/Cargo.toml"):
        assert "version.workspace = true" in manifest.read_text(), manifest
