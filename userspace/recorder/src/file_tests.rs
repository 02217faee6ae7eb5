// SPDX-License-Identifier: GPL-2.0-only

//! What is read of the files of mappings, on programs that this machine's compiler builds.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Command,
};

use fault_tracer_client::{MappedFile, Mapping};
use fault_tracer_symbols::Elf;
use fault_tracer_trace::BuildId;
use fault_tracer_uapi::mapping_flag;
use rustix::fs::{major, minor};

use crate::{
    files::{below, generation, page_size},
    mapped_code,
    maps::code,
    parse_maps, Files, LookAtFile as _,
};

fn run(command: &mut Command) {
    let status = command.status();
    let status = status.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}");
}

/// Builds a program with a function of that name.
fn build(path: &Path, function: &str) {
    let source = path.with_extension("c");
    let text = format!(
        "int {function}(void) {{ return 1; }}\nint main(void) {{ return {function}(); }}\n"
    );
    fs::write(&source, text).unwrap();
    let mut command = Command::new("cc");
    run(command
        .args(["-O1", "-Wl,--build-id=sha1", "-o"])
        .arg(path)
        .arg(source));
}

/// A mapping of a file in a process that has ended.
fn mapping_of(path: &Path) -> Mapping {
    let metadata = path.metadata().unwrap();
    Mapping {
        time_ns: 0,
        tid: 1,
        pid: u32::MAX >> 10,
        number: 0,
        start: 0,
        end: 4096,
        offset: 0,
        inode: metadata.ino(),
        device: u64::from(major(metadata.dev())) << 32 | u64::from(minor(metadata.dev())),
        flags: mapping_flag::FILE | mapping_flag::EXEC,
        path: path.to_str().unwrap().into(),
        file: None,
    }
}

fn elf(path: &Path) -> Elf {
    Elf::read(&File::open(path).unwrap())
        .unwrap()
        .expect("an ELF file")
}

#[test]
fn mappings_of_this_process_name_its_files() {
    let mut files = Files::new();
    let maps = fs::read("/proc/self/maps").unwrap();
    let pid = std::process::id();
    let me = std::env::current_exe().unwrap();
    let own: Vec<_> = parse_maps(pid, &maps)
        .into_iter()
        .filter(|mapping| Path::new(&mapping.path) == me)
        .collect();
    let [mapping] = &own[..] else {
        panic!("{own:?}");
    };
    let place = files.look(mapping);
    let elf = elf(&me);
    let digits = place.build_id.digits().expect("a build id");
    assert_eq!(Some(&**digits), elf.build_id.as_deref());
    assert_eq!(place.bias, elf.bias(mapping.offset, page_size()));
    assert!(place.bias.is_some() && place.changed_ns.is_some());
    // A process that has ended.
    let ended = Mapping {
        pid: u32::MAX >> 10,
        ..mapping.clone()
    };
    assert_eq!(files.look(&ended), place);
    // Another file of that name.
    let other = Mapping {
        inode: mapping.inode + 1,
        ..ended
    };
    assert_eq!(files.look(&other).build_id, BuildId::Unread);
    let other = Mapping {
        device: mapping.device + 1,
        ..other
    };
    assert_eq!(files.look(&other).build_id, BuildId::Unread);
}

/// Of a file that was read, and of one that was not.
#[test]
fn a_file_without_build_id_is_told_from_one_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    fs::write(&path, "no ELF file").unwrap();
    let mapping = mapping_of(&path);
    assert_eq!(Files::new().look(&mapping).build_id, BuildId::Absent);
    fs::remove_file(&path).unwrap();
    assert_eq!(Files::new().look(&mapping).build_id, BuildId::Unread);
}

#[test]
fn a_number_that_is_given_to_another_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    build(&path, "wanted");
    let mapping = mapping_of(&path);
    let mut files = Files::new();
    let first = files.look(&mapping).build_id;
    assert!(first.digits().is_some());
    // The same inode with other content.
    let other = folder.path().join("other");
    build(&other, "other");
    fs::write(&path, fs::read(&other).unwrap()).unwrap();
    let second = files.look(&mapping).build_id;
    assert_ne!(first, second);
    let second = second.digits().expect("a build id");
    assert_eq!(Some(&**second), elf(&other).build_id.as_deref());
    // A pipe of that name keeps nobody waiting.
    fs::remove_file(&path).unwrap();
    run(Command::new("mkfifo").arg(&path));
    assert_eq!(files.look(&mapping).build_id, BuildId::Unread);
}

#[test]
fn an_inode_of_another_generation_is_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    build(&path, "wanted");
    let own = generation(&File::open(&path).unwrap());
    let mut files = Files::new();
    let mut looks = |generation| {
        let mapping = Mapping {
            file: Some(MappedFile {
                generation,
                build_id: None,
                bias: None,
            }),
            ..mapping_of(&path)
        };
        files.look(&mapping).build_id != BuildId::Unread
    };
    // The kernel tells none, and the same.
    assert!(looks(0));
    assert!(looks(own.unwrap_or(7)));
    // Where the file system tells none, none is another.
    assert_eq!(looks(own.unwrap_or(0).wrapping_add(1)), own.is_none());
}

#[test]
fn a_process_sees_paths_below_its_root() {
    let seen = |root, path| below(root, path);
    assert_eq!(
        seen("/srv/root", "/srv/root/bin/sh").as_deref(),
        Some("/bin/sh")
    );
    assert_eq!(seen("/srv/root", "/srv/root2/bin/sh"), None);
    assert_eq!(seen("/", "/bin/sh"), None);
    // In another mount namespace, it is printed as it is seen there.
    assert_eq!(seen("/srv/root", "/bin/sh"), None);
    let own = Files::new().seen_by(std::process::id(), "/bin/sh");
    assert_eq!(own, None);
}

#[test]
fn lines_of_maps() {
    let line = "7f06ab000000-7f06ab021000 r-xp 00028000 fe:01 1835      /usr/lib/a b.so (deleted)";
    let code = |pid, line: &str| code(pid, line.as_bytes());
    let mapping = code(7, line).unwrap();
    assert_eq!(
        (mapping.start, mapping.end),
        (0x7f06_ab00_0000, 0x7f06_ab02_1000)
    );
    assert_eq!((mapping.offset, mapping.inode), (0x28000, 1835));
    assert_eq!(mapping.device, 0xfe << 32 | 1);
    assert_eq!(mapping.path, "/usr/lib/a b.so (deleted)");
    assert_eq!(code(7, &line.replace("r-xp", "r--p")), None);
    let vdso = code(
        7,
        "7ffd3a5fe000-7ffd3a600000 r-xp 00000000 00:00 0     [vdso]",
    )
    .unwrap();
    assert_eq!(vdso.flags & mapping_flag::FILE, 0);
    assert_eq!(vdso.path, "[vdso]");
    for bad in ["", "x", "1-2", "1-2 r-xp", "z-2 r-xp 0 0:0 0"] {
        assert_eq!(code(7, bad), None, "{bad}");
    }
}

#[test]
fn paths_in_maps_are_told_apart() {
    let path = |bytes: &[u8]| {
        let line = [b"1000-2000 r-xp 0 fe:01 1835 ", bytes].concat();
        code(7, &line).expect("a line of code").path
    };
    assert_eq!(path(b"/tmp/\xff"), "/tmp/\\377");
    assert_eq!(path(b"/tmp/\xfe"), "/tmp/\\376");
    // The kernel escapes the newline alone.
    assert_eq!(path(b"/tmp/a\\012b"), "/tmp/a\\012b");
    assert_eq!(path(b"/tmp/a\\b"), "/tmp/a\\134b");
}

/// `/proc/PID/maps` writes a newline and four other characters alike, but the links beside it do not.
#[test]
fn a_newline_in_a_mapped_path_is_no_backslash() {
    let folder = tempfile::tempdir().unwrap();
    let mut children = Vec::new();
    for (name, text) in [("a\nb", "a\\012b"), ("a\\012b", "a\\134012b")] {
        let path = folder.path().join(name);
        fs::copy("/bin/sleep", &path).unwrap();
        let mut child = Command::new(&path).arg("60").spawn().unwrap();
        let wanted = format!("{}/{text}", folder.path().display());
        let found = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let mappings = mapped_code(child.id()).unwrap();
            mappings.iter().any(|mapping| mapping.path == wanted)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        children.push((name, found));
    }
    assert!(children.iter().all(|(_, found)| *found), "{children:?}");
}
