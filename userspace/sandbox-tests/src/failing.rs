// SPDX-License-Identifier: GPL-2.0-only

//! Allocations, and copies from and to programs, that the kernel lets fail when it is told to
//! (`CONFIG_FAULT_INJECTION`, Documentation/fault-injection/fault-injection.rst).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

/// Without a name here the kernel lets fail only what no program waits for. And it says nothing, for it would say much.
const SETTINGS: [(&str, &str); 7] = [
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-highmem", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
    ("fail_usercopy/verbose", "0"),
];

/// What of the calling thread is to fail.
pub struct Failing {
    file: File,
}

impl Failing {
    /// `None` on a kernel that lets nothing fail.
    pub fn of_this_thread() -> Option<Self> {
        let path = Path::new("/proc/thread-self/fail-nth");
        if !path.exists() {
            return None;
        }
        for (name, value) in SETTINGS {
            let path = Path::new("/sys/kernel/debug").join(name);
            fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        // Resolved now, to the thread that calls.
        let file = File::options().read(true).write(true).open(path);
        Some(Self {
            file: file.expect("fail-nth cannot be opened"),
        })
    }

    /// Makes a call of which the `n`th allocation or copy fails, from 1 on. Also tells whether it came to that.
    pub fn nth<T>(&self, n: u32, call: impl FnOnce() -> T) -> (T, bool) {
        let text = n.to_string();
        // Part of the memory of this function before it counts.
        let mut rest = [0; 16];
        self.set(&text).expect("fail-nth cannot be written");
        let result = call();
        let read = self.file.read_at(&mut rest, 0);
        // What is left is written to a program, too: of 1, that fails.
        let has_failed = match read {
            Ok(length) => rest[..length].starts_with(b"0"),
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => false,
            Err(error) => panic!("fail-nth cannot be read: {error}"),
        };
        // As is what says that nothing more shall fail.
        match self.set("0") {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                self.set("0").expect("it has failed, and no more does");
            }
            other => other.expect("fail-nth cannot be written"),
        }
        (result, has_failed)
    }

    fn set(&self, n: &str) -> io::Result<()> {
        self.file.write_at(n.as_bytes(), 0).map(drop)
    }
}
