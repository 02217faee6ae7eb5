# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages on a fresh root, in this order: installed, upgraded, with a further kernel,
removed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = ["fault-tracer", "fault-tracer-dkms", "fault-tracer-rust-metadata"]
VERSION = os.environ["VERSION"]
SHARE = Path(os.environ["SHARE"])
CURRENT, *OTHERS = Path("/etc/fault-tracer/kernels").read_text().split()


def run(*command, status=0):
    """Runs a command, which must end with that status; returns what it wrote."""
    process = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    assert process.returncode == status, f"{command}: {process.returncode}\n{process.stdout}"
    return process.stdout


def install(version):
    """Installs the packages of a version, as a user does."""
    files = [next(Path("build/packages").glob(f"{name}_{version}_*.deb")) for name in PACKAGES]
    return run(
        "apt-get", "install", "-y", "--no-install-recommends", *[f"./{file}" for file in files]
    )


def modules(kernel):
    """The modules that DKMS has installed for a kernel."""
    return list(Path(f"/lib/modules/{kernel}/updates/dkms").glob("fault_tracer.ko*"))


def owned():
    """Files that are there of the packages."""
    places = [
        "/usr/bin",
        "/usr/sbin",
        "/usr/src",
        "/usr/lib",
        "/usr/share",
        "/etc",
        "/var/lib/dkms",
    ]
    found = run("find", *places, "-iname", "*fault?tracer*", "-not", "-path", "/etc/fault-tracer*")
    return [path for path in found.split() if "/modules/" not in path]


@pytest.fixture(scope="module", autouse=True)
def fresh():
    """A root as a user's: pages of the manual are unpacked, and there is one kernel."""
    for file in Path("/etc/dpkg/dpkg.cfg.d").glob("*"):
        file.unlink()
    run("apt-get", "update")
    for kernel in OTHERS:
        common = run("dpkg-query", "--show", "--showformat=${Package}\n", "linux-headers-*")
        series = kernel.rsplit("-", 1)[0]
        names = [name for name in common.split() if series in name]
        run("apt-get", "remove", "-y", *names)
        shutil.rmtree(f"/usr/src/linux-headers-{kernel}", ignore_errors=True)
    assert owned() == []


def test_installed():
    said = install(VERSION)
    assert "warning" not in said.lower(), said
    assert run("fault-tracer", "--version").split() == ["fault-tracer", VERSION]
    [module] = modules(CURRENT)
    assert f"vermagic:       {CURRENT} " in run("modinfo", str(module))
    assert f"fault-tracer/{VERSION}, {CURRENT}, x86_64: installed" in run("dkms", "status")
    assert run("getent", "group", "fault-tracer")
    for path in [
        "/usr/share/man/man1/fault-tracer-record.1.gz",
        "/usr/share/man/man8/fault-tracer-rust-metadata.8.gz",
        "/usr/share/bash-completion/completions/fault-tracer",
        "/usr/lib/udev/rules.d/60-fault-tracer.rules",
        "/usr/lib/fault-tracer/libfault_tracer_preload.so",
        "/usr/lib/systemd/system/fault-tracer.service",
    ]:
        assert Path(path).exists(), path
    assert not list(Path("/etc/systemd").rglob("*/fault-tracer.service")), "it is not enabled"
    # For the guest.
    shutil.copy(module, SHARE)
    shutil.copy("/usr/bin/fault-tracer", SHARE)


def test_upgraded():
    install(f"{VERSION}+next")
    [module] = modules(CURRENT)
    assert module.stat().st_size
    status = run("dkms", "status", "fault-tracer")
    assert status.strip().startswith(f"fault-tracer/{VERSION}+next, {CURRENT}"), status
    assert len(status.split("\n")) == 2, status


def test_a_kernel_that_arrives_later_gets_the_module():
    assert OTHERS, "the sandbox has no second kernel to try this with"
    kernel = OTHERS[0]
    said = run("apt-get", "install", "-y", "--no-install-recommends", f"linux-headers-{kernel}")
    [module] = modules(kernel)
    assert (
        re.search(r"all \d+ Rust symbols are the stock kernel's", said)
        or Path(f"/usr/src/linux-headers-{kernel}/rust/libkernel.rmeta").exists()
    )
    assert f"vermagic:       {kernel} " in run("modinfo", str(module))
    assert not list(Path("/usr/src").glob("linux-build-*")), "nothing is left of making metadata"


def test_a_kernel_without_rust_is_passed_over():
    configuration = Path(f"/lib/modules/{CURRENT}/build/include/config/auto.conf")
    before = configuration.read_text()
    try:
        configuration.write_text(before.replace("CONFIG_RUST=y\n", ""))
        run("dkms", "unbuild", f"fault-tracer/{VERSION}+next", "-k", CURRENT)
        run("dkms", "autoinstall", "-k", CURRENT)
        assert modules(CURRENT) == []
    finally:
        configuration.write_text(before)


def test_signed_for_a_kernel_that_enforces_signatures():
    """What tests/packages/run boots: the module with and without a signature, and firmware that
    has the key as the machine's owner would enrol it."""
    tools = ["openssl", "ovmf", "python3-virt-firmware"]
    run("apt-get", "install", "-y", "--no-install-recommends", *tools)
    for name in ["signed.ko", "unsigned.ko"]:
        shutil.copy(f"build/{CURRENT}/fault_tracer.ko", SHARE / name)
    keys, firmware = SHARE / "keys", SHARE / "firmware"
    shutil.rmtree(keys, ignore_errors=True)
    firmware.mkdir(exist_ok=True)
    headers = f"/lib/modules/{CURRENT}/build"
    sign = ["env", f"FAULT_TRACER_KEYS={keys}", "scripts/sign-module"]
    said = run(*sign, str(SHARE / "signed.ko"), headers)
    assert f"mokutil --import {keys}/module.der" in said
    assert (keys / "module.key").stat().st_mode & 0o77 == 0, "the key is for root alone"
    key = (keys / "module.key").read_bytes()
    # The same key again.
    run(*sign, shutil.copy(SHARE / "unsigned.ko", "/tmp"), headers)
    assert key == (keys / "module.key").read_bytes()
    assert "fault-tracer modules" in run("modinfo", "-F", "signer", str(SHARE / "signed.ko"))
    assert run("modinfo", "-F", "signer", str(SHARE / "unsigned.ko")) == ""
    certificate = str(keys / "module.pem")
    run("openssl", "x509", "-inform", "DER", "-in", str(keys / "module.der"), "-out", certificate)
    owner = "a5f7cd80-6d2c-4a9b-8f7e-0f4f1a1c9d3e"
    variables = [
        "--input",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
        "--output",
        str(firmware / "vars.fd"),
    ]
    run("virt-fw-vars", *variables, "--add-db", owner, certificate)
    shutil.copy("/usr/share/OVMF/OVMF_CODE_4M.fd", firmware / "code.fd")


def test_removed():
    run("apt-get", "purge", "-y", *PACKAGES)
    assert owned() == []
    for kernel in [CURRENT, *OTHERS]:
        assert modules(kernel) == []
    assert "fault-tracer" not in run("dkms", "status")
