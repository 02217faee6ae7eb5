// SPDX-License-Identifier: GPL-2.0-only

//! What perf records: each page fault, with thread and address.

use std::{collections::BTreeMap, path::Path, process::Command};

/// `perf record` of every page fault, but for what is to be recorded and where to.
pub const RECORD: [&str; 7] = ["record", "-q", "-e", "page-faults", "-c", "1", "-d"];

/// How often each thread had a fault at each address, in a file that perf has recorded. None may be lost.
#[track_caller]
pub fn samples(file: &Path) -> BTreeMap<(u32, u64), usize> {
    let output = Command::new("perf")
        .args(["script", "-F", "tid,addr", "--show-lost-events", "-i"])
        .arg(file)
        .output()
        .expect("cannot run perf");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !messages.contains("lost"),
        "perf script: {messages}"
    );
    let mut samples = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut fields = line.split_whitespace();
        let tid = fields.next().and_then(|tid| tid.parse().ok());
        let address = fields
            .next()
            .and_then(|address| u64::from_str_radix(address, 16).ok());
        let sample = tid
            .zip(address)
            .unwrap_or_else(|| panic!("perf script has another form: {line}"));
        *samples.entry(sample).or_default() += 1;
    }
    samples
}
