# SPDX-License-Identifier: GPL-2.0-only
"""The tests that the documents name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
GUEST = TOP / "userspace/sandbox-tests/tests/guest"


def named_tests() -> list[str]:
    """Those that docs/security.md names in its tables."""
    text = (TOP / "docs/security.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return [name for row in rows for name in re.findall(r"`(\w+::\w+)`", row.rsplit("|", 2)[1])]


def test_each_statement_on_security_has_a_test() -> None:
    text = (TOP / "docs/security.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    statements = [row for row in rows if row != "| statement | test |"]
    assert len(statements) > 10
    for row in statements:
        assert re.search(r"\| `\w+::\w+`(, `\w+::\w+`)* \|$", row), row


@pytest.mark.parametrize("name", named_tests())
def test_a_named_test_exists(name: str) -> None:
    module, function = name.split("::")
    source = (GUEST / f"{module}.rs").read_text()
    assert re.search(rf"#\[test\]\nfn {function}\(\)", source), f"there is no test {name}"
