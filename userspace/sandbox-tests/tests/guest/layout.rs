// SPDX-License-Identifier: GPL-2.0-only

//! The structures whose layouts the module writes down itself are the running kernel's.

use std::{collections::BTreeMap, process::Command};

use sandbox_tests::{guest, module};

/// Where the module says how `struct kprobe`, `struct kretprobe` and its instances lie.
const PROBE: &str = include_str!("../../../../fault_tracer/probe.rs");

/// Where it says so of `struct tk_read_base` and `struct clocksource`.
#[cfg(target_arch = "x86_64")]
const CLOCK: &str = include_str!("../../../../fault_tracer/arch/x86_64/clock.rs");

/// Where it says so of `struct mount` and `struct fs_struct`.
const PATH: &str = include_str!("../../../../fault_tracer/path.rs");

/// Where it says how long the kernel's copy of an instruction is.
#[cfg(target_arch = "x86_64")]
const ARCH: &str = include_str!("../../../../fault_tracer/arch/x86_64.rs");
#[cfg(target_arch = "aarch64")]
const ARCH: &str = include_str!("../../../../fault_tracer/arch/arm64.rs");

/// The lines of a file of the module without those for other processors than this.
fn lines_for_this_processor(source: &'static str) -> impl Iterator<Item = &'static str> {
    let mut is_other = false;
    source.lines().filter(move |line| {
        if let Some(rest) = line.strip_prefix("#[cfg(target_arch = \"") {
            is_other = !rest.starts_with(std::env::consts::ARCH);
        }
        let keep = !is_other;
        // What such a line is about ends with the first brace that is not further in.
        is_other &= *line != "};";
        keep
    })
}

/// The offsets that a file of the module asserts of its own structure, by field.
fn asserted_offsets(
    source: &'static str,
    structure: &'static str,
) -> BTreeMap<&'static str, usize> {
    lines_for_this_processor(source)
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("assert!(offset_of!(")?;
            let rest = rest.strip_prefix(structure)?.strip_prefix(", ")?;
            let (field, rest) = rest.split_once(") == ")?;
            Some((field, rest.strip_suffix(");")?.parse().ok()?))
        })
        .collect()
}

/// Words of a `struct kprobe`: in `12 + arch::PROBED_INSTRUCTION_WORDS`, the latter is the processor's.
fn kprobe_words() -> usize {
    assert!(PROBE.contains("const KPROBE_WORDS: usize = 12 + arch::PROBED_INSTRUCTION_WORDS;"));
    let words = ARCH.lines().find_map(|line| {
        line.strip_prefix("pub(crate) const PROBED_INSTRUCTION_WORDS: usize = ")?
            .strip_suffix(';')?
            .parse::<usize>()
            .ok()
    });
    12 + words.expect("the processor's file says how long an instruction's copy is")
}

/// The size that the module asserts of its structure, `A * KPROBE_WORDS + B + C * D`.
fn asserted_size(structure: &str) -> usize {
    let text = PROBE
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix(&format!("assert!(size_of::<{structure}>() == "))?
                .strip_suffix(");")
        })
        .expect("the module asserts the size of its structure");
    text.split('+')
        .map(|term| {
            term.split('*')
                .map(|factor| match factor.trim() {
                    "KPROBE_WORDS" => kprobe_words(),
                    number => number.parse::<usize>().expect("a number"),
                })
                .product::<usize>()
        })
        .sum()
}

/// A structure of the running kernel: the offset and size of each member, and the whole size.
fn kernel_layout(structure: &str) -> (BTreeMap<String, (usize, usize)>, usize) {
    let output = Command::new("pahole")
        .args(["-C", structure, "/sys/kernel/btf/vmlinux"])
        .output()
        .expect("cannot run pahole");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success() && text.contains(&format!("struct {structure} {{")),
        "pahole: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut members = BTreeMap::new();
    let mut size = None;
    for line in text.lines() {
        if let Some(rest) = line.trim().strip_prefix("/* size: ") {
            size = rest.split(',').next().and_then(|size| size.parse().ok());
        }
        let Some((declaration, comment)) = line.split_once("/*") else {
            continue;
        };
        let numbers: Vec<usize> = comment
            .trim_end_matches("*/")
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let name = declaration
            .trim()
            .trim_end_matches(';')
            .rsplit([' ', '*'])
            .next();
        if let (Some(name), [offset, length]) = (name, numbers.as_slice()) {
            members.insert(name.to_owned(), (*offset, *length));
        }
    }
    (members, size.expect("pahole tells the size"))
}

/// Compares the offsets that a file of the module asserts of its `ours`, at least so many, with those of
/// the running kernel. Returns the size of the kernel's structure.
fn assert_offsets(
    source: &'static str,
    ours: &'static str,
    structure: &str,
    at_least: usize,
) -> usize {
    let offsets = asserted_offsets(source, ours);
    assert!(
        offsets.len() >= at_least,
        "the module asserts the offsets of the fields of {ours}: {offsets:?}"
    );
    let (members, size) = kernel_layout(structure);
    for (field, offset) in offsets {
        let field = name_here(field);
        let (real, _) = members.get(field).unwrap_or_else(|| {
            panic!("the kernel's struct {structure} has no {field}: {members:?}")
        });
        assert_eq!(offset, *real, "offset of {field} in struct {structure}");
    }
    size
}

/// What a field of a return hook is called here: the structures of kernels without rethooks have the same places.
fn name_here(field: &'static str) -> &'static str {
    if module::kernel_has("CONFIG_KRETPROBE_ON_RETHOOK") {
        return field;
    }
    match field {
        "rh" | "rethook" => "rph",
        "frame" => "fp",
        other => other,
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_kernels_clock_is_kept_as_the_module_expects() {
    assert_offsets(CLOCK, "ReadBase", "tk_read_base", 7);
    assert_offsets(CLOCK, "ClockSource", "clocksource", 2);
    let (members, _) = kernel_layout("timekeeper");
    assert_eq!(
        members.get("tkr_mono").map(|(offset, _)| *offset),
        Some(0),
        "{members:?}"
    );
}

#[test]
fn mounts_and_roots_are_where_the_module_looks_for_them() {
    assert_offsets(PATH, "RawMount", "mount", 3);
    let asserted = "offset_of!(RawFs, root) == if cfg!(CONFIG_PREEMPT_RT) { 64 } else { 24 }";
    assert!(PATH.contains(asserted));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let (members, _) = kernel_layout("fs_struct");
    let expected = if module::kernel_has("CONFIG_DEBUG_SPINLOCK") {
        // Behind a lock whose size the module takes from the kernel, and two integers.
        (members["in_exec"].0 + 4).next_multiple_of(8)
    } else if release.contains("-rt-") {
        64
    } else {
        24
    };
    assert_eq!(members["root"].0, expected, "{members:?}");
}

#[test]
fn struct_kprobe_is_the_kernels() {
    let size = assert_offsets(PROBE, "RawKprobe", "kprobe", 5);
    assert!(
        asserted_size("RawKprobe") >= size,
        "the module keeps {} bytes for a struct kprobe of {size}",
        asserted_size("RawKprobe")
    );
}

#[test]
fn struct_kretprobe_and_its_instances_are_the_kernels() {
    let size = assert_offsets(PROBE, "RawKretprobe", "kretprobe", 7);
    let ours = asserted_size("RawKretprobe");
    assert!(
        ours >= size,
        "{ours} bytes for a struct kretprobe of {size}"
    );
    // An instance is such a node, and the module's data behind it.
    let (members, _) = kernel_layout("kretprobe_instance");
    let size = asserted_size("RawInstance");
    if module::kernel_has("CONFIG_KRETPROBE_ON_RETHOOK") {
        assert_eq!(
            assert_offsets(PROBE, "RawInstance", "rethook_node", 4),
            size
        );
        assert_eq!(members["node"], (0, size));
    } else {
        assert_offsets(PROBE, "RawInstance", "kretprobe_instance", 4);
    }
    let data = members.iter().find(|(name, _)| name.starts_with("data"));
    let (_, (offset, _)) = data.expect("a kretprobe_instance has data");
    assert_eq!(*offset, size);
}

#[test]
fn a_kernel_with_other_structures_is_refused() {
    guest::test(|log| {
        if !module::kernel_has("CONFIG_DEBUG_INFO_BTF") {
            // Such a kernel cannot be asked: the headers' word is taken.
            let _module = module::load_idle();
            return;
        }
        let image = std::fs::read(module::path()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fault_tracer.ko");
        for (ours, theirs, message) in [
            (
                "mnt_mountpoint",
                "mnt_mountpaint",
                "this kernel has no mnt_mountpaint in its struct mount",
            ),
            // A member that there is, elsewhere.
            ("maxactive", "data_size", "of struct kretprobe at "),
        ] {
            let mut image = image.clone();
            let places: Vec<_> = image
                .windows(ours.len())
                .enumerate()
                .filter(|(_, bytes)| *bytes == ours.as_bytes())
                .map(|(at, _)| at)
                .collect();
            assert!(!places.is_empty(), "the module does not name {ours}");
            for at in places {
                image[at..at + theirs.len()].copy_from_slice(theirs.as_bytes());
            }
            std::fs::write(&file, image).unwrap();
            let error = module::load_from(&file).err().expect("it is loaded");
            assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
            let said = log.of_module().join("\n");
            assert!(said.contains(message), "{said}");
        }
        // The very kernel that it was built for.
        let _module = module::load_idle();
    });
}
