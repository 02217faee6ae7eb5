// SPDX-License-Identifier: GPL-2.0-only

//! No recording is lost to another one, and what is written stays whole.

use std::os::unix::fs::{symlink, PermissionsExt as _};

use fault_tracer_trace::{
    file::{Reader, Writer},
    Counter, CounterRow, Metadata, Row,
};

use super::*;

fn open(path: &Path) -> anyhow::Result<Output> {
    Output::open(Some(path), Former::Renamed)
}

/// A folder, and a path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faults.arrows");
    (folder, path)
}

/// The names in a folder, in their order.
fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn an_existing_file_is_kept_until_the_recording_begins_and_renamed_then() {
    let (folder, path) = place();
    fs::write(&path, "an older and longer recording").unwrap();
    drop(open(&path).unwrap());
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "an older and longer recording"
    );
    for recording in ["new", "newer"] {
        let mut output = open(&path).unwrap();
        output.begin().unwrap();
        output.write_all(recording.as_bytes()).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
    assert_eq!(names(&folder), ["faults.arrows", "faults.arrows.old"]);
    assert_eq!(
        fs::read_to_string(folder.path().join("faults.arrows.old")).unwrap(),
        "new"
    );
    let mut output = Output::open(Some(&path), Former::Replaced).unwrap();
    output.begin().unwrap();
    output.write_all(b"x").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "x");
    assert_eq!(
        fs::read_to_string(folder.path().join("faults.arrows.old")).unwrap(),
        "new"
    );
}

#[test]
fn an_empty_file_is_written_to_as_it_is() {
    let (folder, path) = place();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut output = open(&path).unwrap();
    output.begin().unwrap();
    output.write_all(b"x").unwrap();
    assert_eq!(names(&folder), ["faults.arrows"]);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn what_another_recording_writes_is_refused_and_stays() {
    let (folder, path) = place();
    for begun in [false, true] {
        let mut first = open(&path).unwrap();
        if begun {
            first.begin().unwrap();
            first.write_all(b"first").unwrap();
        }
        for former in [Former::Renamed, Former::Replaced] {
            let error = Output::open(Some(&path), former).unwrap_err();
            assert!(
                format!("{error:#}").contains("another recording is writing"),
                "{error:#}"
            );
        }
        assert!(path.exists());
        if !begun {
            first.begin().unwrap();
            first.write_all(b"first").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        drop(first);
        fs::remove_file(&path).unwrap();
    }
    assert!(names(&folder).is_empty());
}

#[test]
fn a_new_file_is_not_left_behind_unused() {
    let (_folder, path) = place();
    let output = open(&path).unwrap();
    assert!(path.exists());
    drop(output);
    assert!(!path.exists());
    let mut output = open(&path).unwrap();
    output.begin().unwrap();
    drop(output);
    assert!(path.exists());
}

#[test]
fn devices_and_links_can_be_written_to() {
    let mut null = open(Path::new("/dev/null")).unwrap();
    null.begin().unwrap();
    null.write_all(b"x").unwrap();
    drop(null);
    assert!(Path::new("/dev/null").exists());

    let (folder, link) = place();
    symlink("target", &link).unwrap();
    let mut output = open(&link).unwrap();
    output.begin().unwrap();
    output.write_all(b"x").unwrap();
    drop(output);
    // What the link leads to is renamed, not the link.
    open(&link).unwrap().begin().unwrap();
    assert_eq!(names(&folder), ["faults.arrows", "target", "target.old"]);
    assert!(link.is_symlink());
}

#[test]
fn a_bad_path_is_named() {
    let error = open(Path::new("/no/such/folder/f.csv")).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder/f.csv"));
}

/// A trace of many small batches; its rows.
fn loose(output: &mut Output) -> Vec<Row> {
    output.begin().unwrap();
    let mut writer = Writer::new(&mut *output, &Metadata::default()).unwrap();
    let row = |count| {
        Row::Counter(CounterRow {
            counter: Counter::Hits,
            time_ns: count,
            cpu: Some(1),
            count,
        })
    };
    let rows: Vec<_> = (0..200).map(row).collect();
    for row in &rows {
        writer.push(row).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    assert!(writer.is_loose());
    rows
}

fn read(path: &Path) -> Vec<Row> {
    let reader = Reader::new(File::open(path).unwrap()).unwrap();
    reader.map(Result::unwrap).collect()
}

#[test]
fn a_compact_copy_takes_the_place_of_the_file() {
    let (folder, path) = place();
    let mut output = open(&path).unwrap();
    let rows = loose(&mut output);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let before = fs::metadata(&path).unwrap().len();
    let bytes = output.compact(|_| {}).unwrap().unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.len(), after.mode() & 0o777), (bytes, 0o604));
    assert!(bytes < before / 10, "{bytes} of {before}");
    assert!(read(&path) == rows);
    assert_eq!(names(&folder), ["faults.arrows"]);
    // It is still this recording's.
    open(&path).unwrap_err();
    drop(output);
    open(&path).unwrap();
}

#[test]
fn what_cannot_be_replaced_stays_as_it_is() {
    // Another name of the file would lead to what was.
    let (folder, path) = place();
    let mut output = open(&path).unwrap();
    let rows = loose(&mut output);
    let other = folder.path().join("other");
    fs::hard_link(&path, &other).unwrap();
    assert!(output.compact(|_| {}).is_err());
    assert!(read(&path) == rows);
    // Another file has its name.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another").unwrap();
    assert!(output.compact(|_| {}).is_err());
    drop(output);
    assert_eq!(fs::read_to_string(&path).unwrap(), "another");
    assert!(read(&other) == rows);
    assert_eq!(names(&folder), ["faults.arrows", "other"]);
    // There is nothing to replace.
    let mut null = open(Path::new("/dev/null")).unwrap();
    null.begin().unwrap();
    assert!(null.compact(|_| {}).unwrap().is_none());
}
