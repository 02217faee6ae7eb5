// SPDX-License-Identifier: GPL-2.0-only

//! Settings of the kernel: of which one is chosen, such as `always [madvise] never`, and numbers.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Whether the kernel can have huge pages by itself: those of real time cannot.
pub fn has_huge_pages() -> bool {
    Path::new("/sys/kernel/mm/transparent_hugepage").exists()
}

/// Whether the kernel is one of real time, which has neither huge pages nor NUMA balancing. Then says so of a test.
pub fn is_realtime() -> bool {
    let is = fs::read_to_string("/proc/version").is_ok_and(|text| text.contains("PREEMPT_RT"));
    if is {
        println!("kernels of real time have nothing of this");
    }
    is
}

/// Bytes of the huge pages that [`reserve_huge_pages`] reserves.
pub const RESERVED_PAGE: u64 = 2 << 20;

/// Reserves so many huge pages of 2 MiB, which all processors here have.
pub fn reserve_huge_pages(count: u64) {
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    fs::write(file, count.to_string()).expect("cannot reserve huge pages");
    let reserved = fs::read_to_string(file).expect("there are huge pages");
    assert_eq!(reserved.trim().parse(), Ok(count), "huge pages reserved");
}

/// A setting that is another one while this is there.
pub struct Setting(Option<(PathBuf, String)>);

impl Setting {
    /// Chooses a value. On a kernel without huge pages, those of huge pages are not there, and as they were.
    pub fn choose(file: impl Into<PathBuf>, value: &str) -> Self {
        let file = file.into();
        if file.starts_with("/sys/kernel/mm/transparent_hugepage") && !has_huge_pages() {
            return Self(None);
        }
        let text = fs::read_to_string(&file).unwrap();
        let before = text.split(['[', ']']).nth(1).expect("one is chosen");
        fs::write(&file, value).unwrap();
        Self(Some((file, before.to_owned())))
    }

    /// Sets a number.
    pub fn number(file: impl Into<PathBuf>, value: u64) -> Self {
        let file = file.into();
        let before = fs::read_to_string(&file).unwrap();
        fs::write(&file, value.to_string()).unwrap();
        Self(Some((file, before.trim().to_owned())))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Some((file, before)) = &self.0 {
            fs::write(file, before)
                .unwrap_or_else(|error| panic!("cannot restore {}: {error}", file.display()));
        }
    }
}
