// SPDX-License-Identifier: GPL-2.0-only

//! The one structure whose layout the module writes down itself is the running kernel's.

use std::{collections::BTreeMap, process::Command};

/// Where the module says how `struct kprobe` lies.
const PROBE: &str = include_str!("../../../../fault_tracer/probe.rs");

/// The offsets that the module asserts of its own structure, by field.
fn asserted_offsets() -> BTreeMap<&'static str, usize> {
    PROBE
        .lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("assert!(offset_of!(RawKprobe, ")?;
            let (field, rest) = rest.split_once(") == ")?;
            Some((field, rest.strip_suffix(");")?.parse().ok()?))
        })
        .collect()
}

/// The size that the module asserts of its structure, `A + B * C`.
fn asserted_size() -> usize {
    let text = PROBE
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix("assert!(size_of::<RawKprobe>() == ")?
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

/// `struct kprobe` of the running kernel: the offset and size of each member, and the whole size.
fn kernel_layout() -> (BTreeMap<String, (usize, usize)>, usize) {
    let output = Command::new("pahole")
        .args(["-C", "kprobe", "/sys/kernel/btf/vmlinux"])
        .output()
        .expect("cannot run pahole");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success() && text.contains("struct kprobe {"),
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

#[test]
fn struct_kprobe_is_the_kernels() {
    let offsets = asserted_offsets();
    assert!(
        offsets.len() >= 5,
        "the module asserts the offsets of its fields: {offsets:?}"
    );
    let (members, size) = kernel_layout();
    for (field, offset) in offsets {
        let (real, _) = members
            .get(field)
            .unwrap_or_else(|| panic!("the kernel's struct kprobe has no {field}: {members:?}"));
        assert_eq!(offset, *real, "offset of {field}");
    }
    assert!(
        asserted_size() >= size,
        "the module keeps {} bytes for a struct kprobe of {size}",
        asserted_size()
    );
}
