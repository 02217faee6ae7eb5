// SPDX-License-Identifier: GPL-2.0-only

//! A compilation of thirty files of the kernel: complete, and what recording it costs. It takes a minute:
//! `tests/guest/run` runs it on one kernel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sandbox_tests::{
    guest, module,
    program::Program,
    trace::{Trace, Traced},
};

const FILES: usize = 30;

/// The most bytes of a trace file for each fault, however slow the machine is.
const BYTES_PER_FAULT: f64 = 14.0;

/// Small files that the kernel has had for long; a few may be gone from one to come.
const CANDIDATES: [&str; 36] = [
    "argv_split",
    "ashldi3",
    "ashrdi3",
    "bcd",
    "bitrev",
    "bsearch",
    "bust_spinlocks",
    "check_signature",
    "clz_ctz",
    "clz_tab",
    "cmdline",
    "cmpdi2",
    "ctype",
    "fdt",
    "fdt_addresses",
    "fdt_empty_tree",
    "fdt_ro",
    "fdt_rw",
    "fdt_strerror",
    "fdt_sw",
    "fdt_wip",
    "hweight",
    "iomap_copy",
    "irq_regs",
    "is_single_threaded",
    "kasprintf",
    "list_sort",
    "lshrdi3",
    "memcat_p",
    "memweight",
    "muldi3",
    "plist",
    "sort",
    "ucmpdi2",
    "union_find",
    "usercopy",
];

/// The number before some words.
#[track_caller]
fn number_before(text: &str, words: &str) -> f64 {
    let end = text
        .find(words)
        .unwrap_or_else(|| panic!("no {words:?} in:\n{text}"));
    let digits = text[..end]
        .rsplit(|character: char| !character.is_ascii_digit() && character != ',')
        .next()
        .unwrap_or_default();
    digits.replace(',', "").parse().expect("a number")
}

#[test]
fn thirty_files_of_the_kernel_with_all_processes() {
    guest::test(|_| {
        let _module = module::load_idle();
        let build = Path::new("/usr/src/linux-build");
        let objects: Vec<PathBuf> = CANDIDATES
            .iter()
            .filter(|name| {
                Path::new("/usr/src/linux-source/lib")
                    .join(name)
                    .with_extension("c")
                    .exists()
            })
            .map(|name| Path::new("lib").join(name).with_extension("o"))
            .take(FILES)
            .collect();
        assert_eq!(objects.len(), FILES, "files to compile: {objects:?}");
        for object in &objects {
            // An earlier test may have made it.
            let _ = fs::remove_file(build.join(object));
        }
        let mut words = vec!["-s", "-j2", "-C", "/usr/src/linux-build"];
        words.extend(objects.iter().map(|path| path.to_str().unwrap()));
        let program = Program::new("make", words, None);
        let Traced { trace, usage, took } = Trace::of_program(&["--ring-kib", "16384"], program);
        usage.assert_success();
        for object in &objects {
            assert!(build.join(object).exists(), "{object:?} was not made");
        }
        let text = trace.assert_balance();
        print!("{}{text}", trace.said);
        // Each file needs at least the compiler's driver and the compiler.
        let processes = number_before(&trace.said, " processes");
        assert!(processes > 2.0 * FILES as f64, "{}", trace.said);

        let faults = number_before(&text, " faults in the trace");
        let seconds = took.as_secs_f64();
        let bytes = trace.bytes() as f64 / faults;
        let cpu = trace.recorder.expect("a recorder").cpu.as_nanos() as f64 / faults;
        println!(
            "{faults} faults in {seconds:.0} s, {bytes:.1} bytes and {cpu:.0} ns of the recorder for each"
        );
        assert!(
            bytes <= BYTES_PER_FAULT,
            "{bytes:.1} bytes of the trace file for each of {faults} faults in {seconds:.0} s"
        );
    });
}
