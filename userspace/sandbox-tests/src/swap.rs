// SPDX-License-Identifier: GPL-2.0-only

//! A compressed disk in memory (zram), to swap to or to map and write.

use std::{fs, path::Path, process::Command};

/// Its device.
pub const DEVICE: &str = "/dev/zram0";

/// The disk; all is undone when this goes.
#[must_use]
pub struct Disk {
    swap: bool,
}

/// Runs a program of the system that must succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Disk {
    /// A disk of so many MiB, empty.
    pub fn new(mib: usize) -> Self {
        run("modprobe", &["zram"]);
        fs::write("/sys/block/zram0/disksize", format!("{mib}M")).expect("cannot make the disk");
        assert!(Path::new(DEVICE).exists(), "{DEVICE} does not appear");
        Self { swap: false }
    }

    /// A disk that memory is swapped out to.
    pub fn for_swap(mib: usize) -> Self {
        let mut disk = Self::new(mib);
        run("mkswap", &[DEVICE]);
        run("swapon", &[DEVICE]);
        disk.swap = true;
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test says why itself; another panic would end all of them.
            let _ = Command::new("swapoff").arg(DEVICE).output();
            let _ = fs::write("/sys/block/zram0/reset", "1");
            return;
        }
        if self.swap {
            run("swapoff", &[DEVICE]);
        }
        fs::write("/sys/block/zram0/reset", "1").expect("cannot reset the disk");
    }
}
