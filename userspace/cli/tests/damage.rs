// SPDX-License-Identifier: GPL-2.0-only

//! What the tool says to files that are no whole trace.

use std::{fs, path::Path, process::Command};

/// The status, and what was written to standard output and standard error.
fn run(subcommand: &[&str], file: &Path) -> (Option<i32>, String, String) {
    let (name, options) = subcommand.split_first().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fault-tracer"))
        .arg(name)
        .arg(file)
        .args(options)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let [stdout, stderr] = text;
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code(), stdout, stderr)
}

/// A whole trace, and where its frames begin.
fn whole() -> (Vec<u8>, Vec<usize>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/trace_file/whole");
    let bytes = fs::read(file).unwrap();
    let frames = bytes.chunks(8).enumerate();
    let frames = frames.filter(|(_, start)| start.starts_with(&[0xff; 4]) && start[6..] == [0, 0]);
    let frames = frames.map(|(index, _)| index * 8).collect();
    (bytes, frames)
}

/// Rows of faults in a CSV.
fn faults(csv: &str) -> usize {
    csv.lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .count()
}

#[test]
fn what_stands_before_the_damage_is_read_and_the_damage_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.arrows");
    let (bytes, frames) = whole();
    fs::write(&file, &bytes).unwrap();
    let (status, csv, _) = run(&["export", "-f", "csv"], &file);
    let all = faults(&csv);
    assert_eq!((status, all), (Some(0), 5), "{csv}");

    // Behind the first faults, and before the pending ones are reported.
    let at = frames[frames.len() - 4];
    let mut damaged = bytes.clone();
    damaged[at] ^= 4;
    fs::write(&file, &damaged).unwrap();
    for subcommand in [&["export", "-f", "csv"][..], &["verify"]] {
        let (status, csv, reported) = run(subcommand, &file);
        assert_eq!(status, Some(1), "{reported}");
        assert!(
            reported.contains(&format!("damaged at byte {at}"))
                && reported.contains("faults.arrows"),
            "{reported}"
        );
        if subcommand[0] == "export" {
            assert!((1..all).contains(&faults(&csv)), "{csv}");
        }
    }

    fs::write(&file, &bytes[..at + 20]).unwrap();
    for (subcommand, expected) in [(&["export", "-f", "csv"][..], 0), (&["verify"], 1)] {
        let (status, _, reported) = run(subcommand, &file);
        assert_eq!(status, Some(expected), "{reported}");
        assert!(reported.contains("cut off after"), "{reported}");
    }
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other");
    for other in [&b""[..], b"time_ns,cpu\n1,2\n", &[0xff; 100], &[0; 5000]] {
        fs::write(&file, other).unwrap();
        for subcommand in [&["export", "-f", "jsonl"][..], &["verify"]] {
            let (status, written, reported) = run(subcommand, &file);
            assert_eq!((status, &*written), (Some(1), ""), "{reported}");
            assert!(
                reported.contains("this is no trace") && reported.contains("record -o FILE"),
                "{reported}"
            );
        }
    }
}
