// SPDX-License-Identifier: GPL-2.0-only

//! The module's reader of build ids, beside that of the recorder, which another crate understands ELF for.

#![cfg(not(loom))]

use std::{
    cell::Cell,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use fault_tracer_symbols::Elf;
use fault_tracer_trace::PageSize;
use proptest::prelude::*;
use ring_tests::elf::{describe, BuildId, Described, BUILD_ID_BYTES};

const PAGE: u64 = 4096;

/// The sizes that pages have.
const SIZES: [u64; 3] = [PAGE, 16 << 10, 64 << 10];

fn known_bias(elf: &Elf, offset: u64, page_bytes: u64) -> Option<u64> {
    elf.bias(offset, PageSize::of_bytes(page_bytes).unwrap())
}

/// What the module finds, if it sees the pages that `is_cached` says: the last of them is zeros behind the file's end.
fn found(file: &[u8], is_cached: impl Fn(u64) -> bool) -> Option<BuildId> {
    Some(described(file, 0, PAGE, is_cached)?.build_id)
}

/// And of its code at an offset, where pages have so many bytes.
fn described(
    file: &[u8],
    at: u64,
    page_bytes: u64,
    is_cached: impl Fn(u64) -> bool,
) -> Option<Described> {
    let reads = Cell::new(0);
    describe(at, page_bytes, |offset, to| {
        reads.set(reads.get() + 1);
        assert!(reads.get() < 300, "it reads for ever");
        let Some(end) = offset.checked_add(to.len() as u64) else {
            return false;
        };
        for page in offset / PAGE..=(end - 1) / PAGE {
            if page >= (file.len() as u64).div_ceil(PAGE) || !is_cached(page) {
                return false;
            }
        }
        for (byte, at) in to.iter_mut().zip(offset as usize..) {
            *byte = file.get(at).copied().unwrap_or(0);
        }
        true
    })
}

fn digits(id: &BuildId) -> Option<String> {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (id.length != 0).then(|| digits(&id.bytes[..id.length]))
}

/// A program that is linked with these options.
fn program(folder: &Path, options: &[&str]) -> Vec<u8> {
    let source = folder.join("program.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let file = folder.join("program");
    let done = Command::new("cc")
        .args(options)
        .arg(&source)
        .arg("-o")
        .arg(&file)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    fs::read(file).unwrap()
}

#[test]
fn the_linkers_options_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let of = |option: &str| {
        let option = format!("-Wl,--build-id={option}");
        found(&program(folder.path(), &[&option]), |_| true)
    };
    for (option, length) in [("sha1", 20), ("md5", 16), ("uuid", 16)] {
        assert_eq!(of(option).unwrap().length, length, "{option}");
    }
    let longest = "0123456789abcdef".repeat(4);
    assert_eq!(longest.len(), 2 * BUILD_ID_BYTES);
    let id = of(&format!("0x{longest}")).unwrap();
    assert_eq!(digits(&id), Some(longest.clone()));
    assert_eq!(of(&format!("0x{longest}00")), None);
    assert_eq!(of("none").map(|id| id.length), Some(0));
    // Of 32 bits, which needs no library of these.
    let small = ["-m32", "-nostdlib", "-static", "-Wl,-e,main"];
    let id = format!("-Wl,--build-id=0x{}", "a5".repeat(8));
    let file = program(folder.path(), &[&small[..], &[&id]].concat());
    assert_eq!(file[4], 1);
    let known = Elf::read(&File::open(folder.path().join("program")).unwrap());
    let known = known.unwrap().unwrap();
    assert_eq!(digits(&found(&file, |_| true).unwrap()), known.build_id);
    for offset in (0..file.len() as u64).step_by(PAGE as usize) {
        for size in SIZES {
            let said = described(&file, offset, size, |_| true).unwrap();
            assert_eq!(said.bias, known_bias(&known, offset, size));
        }
    }
    // No ELF file: it has none.
    assert_eq!(found(b"#!/bin/sh\n", |_| true).map(|id| id.length), Some(0));
}

/// The files of this machine whose code runs, a thousand at most.
fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/gcc"] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let metadata = path.metadata();
            if metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() < 1 << 24) {
                files.push(path);
            }
        }
    }
    files.truncate(1000);
    files
}

#[test]
fn programs_and_libraries_have_what_the_recorder_reads() {
    let mut with_id = 0;
    for path in files() {
        let known = Elf::read(&File::open(&path).unwrap()).unwrap();
        let file = fs::read(&path).unwrap();
        for offset in (0..file.len() as u64 + PAGE).step_by(16 * PAGE as usize) {
            for size in SIZES {
                let bias = described(&file, offset, size, |_| true).and_then(|said| said.bias);
                let known = known.as_ref().and_then(|elf| known_bias(elf, offset, size));
                assert_eq!(bias, known, "{} at {offset:#x}, {size}", path.display());
            }
        }
        let expected = known.and_then(|elf| elf.build_id);
        let id = found(&file, |_| true);
        let id = id.unwrap_or_else(|| panic!("{}: it is not reported", path.display()));
        assert_eq!(digits(&id), expected, "{}", path.display());
        with_id += u32::from(expected.is_some());
    }
    assert!(with_id > 50, "{with_id} files with a build id");
}

#[test]
fn what_is_not_in_memory_is_not_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = program(folder.path(), &["-Wl,--build-id=sha1"]);
    assert_eq!(found(&file, |_| false), None);
    assert_eq!(found(&file, |page| page != 0), None);
    assert_eq!(found(&file, |page| page == 0).unwrap().length, 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the file holds, reading it ends without a panic; and what is reported is what all of the file says.
    #[test]
    fn damaged_files_are_read_to_an_end(
        changes in prop::collection::vec((0..1200usize, any::<u8>()), 1..12),
        cached in any::<u8>(),
    ) {
        static PROGRAM: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut file = PROGRAM
            .get_or_init(|| program(tempfile::tempdir().unwrap().path(), &[]))
            .clone();
        for (at, byte) in changes {
            file[at] = byte;
        }
        let whole = found(&file, |_| true);
        let part = found(&file, |page| cached >> (page % 8) & 1 != 0);
        prop_assert!(part.is_none() || part == whole);
    }
}
