// SPDX-License-Identifier: GPL-2.0-only

//! The structures whose layouts the module writes down itself are the running kernel's.

use std::{collections::BTreeMap, process::Command};

use sandbox_tests::module;

/// Where the module says how `struct kprobe`, `struct kretprobe` and its instances lie.
const PROBE: &str = include_str!("../../../../fault_tracer/probe.rs");

/// Where it says so of `struct tk_read_base` and `struct clocksource`.
const CLOCK: &str = include_str!("../../../../fault_tracer/arch/x86_64/clock.rs");

/// Where it says so of `struct mount` and `struct fs_struct`.
const PATH: &str = include_str!("../../../../fault_tracer/path.rs");

/// The offsets that a file of the module asserts of its own structure, by field.
fn asserted_offsets(
    source: &'static str,
    structure: &'static str,
) -> BTreeMap<&'static str, usize> {
    source
        .lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("assert!(offset_of!(")?;
            let rest = rest.strip_prefix(structure)?.strip_prefix(", ")?;
            let (field, rest) = rest.split_once(") == ")?;
            Some((field, rest.strip_suffix(");")?.parse().ok()?))
        })
        .collect()
}

/// The size that the module asserts of its structure, `A + B * C`.
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
                .map(|factor| factor.trim().parse::<usize>().expect("a number"))
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
        let (real, _) = members.get(field).unwrap_or_else(|| {
            panic!("the kernel's struct {structure} has no {field}: {members:?}")
        });
        assert_eq!(offset, *real, "offset of {field} in struct {structure}");
    }
    size
}

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
    let size = assert_offsets(PROBE, "RawInstance", "rethook_node", 4);
    assert_eq!(asserted_size("RawInstance"), size);
    // An instance is such a node, and the module's data behind it.
    let (members, _) = kernel_layout("kretprobe_instance");
    assert_eq!(members["node"], (0, size));
    let data = members.iter().find(|(name, _)| name.starts_with("data"));
    let (_, (offset, _)) = data.expect("a kretprobe_instance has data");
    assert_eq!(*offset, size);
}
