// SPDX-License-Identifier: GPL-2.0-only

//! The records beside the faults: each fault's mapping and each thread's names, beginning and end are reported
//! of, rightly and in time; the counters at beginning and end prove that no fault is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    ptr,
};

use fault_tracer_uapi::{
    clock, fault_flag, mapping_flag, mode, session_flag, task_event, Config, MAPPING_UNKNOWN,
};
use sandbox_tests::{
    device::{Session, Setup},
    guest, module,
    program::{find, Program, WORKLOAD},
    setting::{reserve_huge_pages, RESERVED_PAGE},
    sideband::{
        assert_balanced, assert_holds, config, parse, Balance, Mapping, Record, Task, Trace,
    },
};

/// A session that records this process alone, without its children.
fn of_ourselves() -> Session {
    let session = Session::configured(Config {
        flags: session_flag::SIDEBAND,
        ..config()
    });
    session.add(guest::own_pid()).unwrap();
    session
}

fn own_tid() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

/// Waits until no target of a session is left.
fn wait_for_end(session: &Session) {
    while session.info().live_targets != 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Runs a program with its children to the end of all of them, and checks what is true of any trace.
fn run(config: Config, name: &str, arguments: &[&str]) -> (u32, Trace) {
    let mut program = Program::new(name, arguments, None);
    program.wait_at_gate();
    let session = Session::configured(config);
    session.add(program.pid()).unwrap();
    let pid = program.pid().unsigned_abs();
    program.go();
    program.wait().assert_success();
    wait_for_end(&session);
    let trace = Trace::finish(&session, &[]);
    trace.assert_resolved();
    (pid, trace)
}

// ---------------------------------------------------------------------------------------------
// Mappings
// ---------------------------------------------------------------------------------------------

/// A line of `/proc/PID/maps`.
#[derive(Debug)]
struct Line {
    start: u64,
    end: u64,
    rights: String,
    offset: u64,
    device: (u32, u32),
    inode: u64,
    path: String,
}

fn maps(pid: i32) -> Vec<Line> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let hex = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
    text.lines()
        .map(|line| {
            let mut rest = line;
            let mut field = || {
                let (field, behind) = rest.split_once(' ').unwrap();
                rest = behind;
                field
            };
            let (start, end) = field().split_once('-').unwrap();
            let rights = field().to_owned();
            let offset = hex(field());
            let (major, minor) = field().split_once(':').unwrap();
            let inode = field().parse().unwrap();
            Line {
                start: hex(start),
                end: hex(end),
                rights,
                offset,
                device: (hex(major) as u32, hex(minor) as u32),
                inode,
                path: rest.trim_start().to_owned(),
            }
        })
        .collect()
}

/// The build id of a file, as another program reads it.
fn build_id(path: &str) -> String {
    let output = Command::new("readelf").args(["--notes", path]).output();
    let notes = String::from_utf8(output.unwrap().stdout).unwrap();
    let id = notes.split_once("Build ID: ").map_or("", |(_, id)| id);
    id.lines().next().unwrap_or("").trim().to_owned()
}

/// The generation of a file's inode, where its file system tells it.
fn generation(path: &str) -> Option<u32> {
    const FS_IOC_GETVERSION: libc::c_ulong = 0x8008_7601;
    let file = fs::File::open(path).unwrap();
    let mut generation = 0u32;
    // SAFETY: The call writes 32 bits.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETVERSION, &raw mut generation) };
    (result == 0).then_some(generation)
}

#[test]
fn a_mapping_is_told_as_proc_maps_shows_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        reserve_huge_pages(2);
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::new(
            WORKLOAD,
            [
                "mappings",
                "--huge",
                "--folder",
                folder.path().to_str().unwrap(),
            ],
            None,
        );
        program.wait_at_gate();
        let session = Session::configured(config());
        session.add(program.pid()).unwrap();
        program.go();
        let mut status = 0;
        // SAFETY: A system call on a child of ours, with an integer of ours.
        let waited = unsafe { libc::waitpid(program.pid(), &raw mut status, libc::WUNTRACED) };
        assert_eq!(waited, program.pid());
        assert!(libc::WIFSTOPPED(status), "wait status {status:#x}");
        let lines = maps(program.pid());
        let trace = Trace::finish(&session, &[]);
        program.kill();
        reserve_huge_pages(0);
        trace.assert_complete();
        trace.assert_resolved();

        // The last that was said of each range.
        let reported: BTreeMap<(u64, u64), &Mapping> = trace
            .in_time_order()
            .into_iter()
            .filter_map(|record| match record {
                Record::Mapping(mapping) => Some(((mapping.start, mapping.end), mapping)),
                _ => None,
            })
            .collect();
        let executable = find(WORKLOAD).canonicalize().unwrap();
        let executable = executable.to_str().unwrap();
        let mut kinds = BTreeSet::new();
        let mut problems = Vec::new();
        let mut with_file = 0;
        for line in &lines {
            let Some(mapping) = reported.get(&(line.start, line.end)) else {
                continue;
            };
            // Of anonymous memory the record tells what the kernel keeps there, and /proc nothing.
            let offset = if line.inode == 0 {
                line.offset
            } else {
                mapping.offset
            };
            let same = (line.offset, line.device, line.inode, line.path.as_str())
                == (offset, mapping.device, mapping.inode, mapping.path.as_str());
            // What the dynamic linker has made read-only after its last fault keeps its range.
            let rights = line.rights == mapping.rights()
                || (line.rights == "r--p" && mapping.rights() == "rw-p" && line.inode != 0);
            if !same || !rights {
                problems.push(format!("/proc says {line:x?}, the record {mapping:x?}"));
            }
            assert_eq!(
                mapping.flags & mapping_flag::FILE != 0,
                line.inode != 0,
                "{mapping:x?}"
            );
            if let Some(file) = &mapping.file {
                assert_eq!(file.build_id.as_deref(), Some(&*build_id(&line.path)));
                let generation = generation(&line.path);
                assert!(generation.is_none_or(|of_file| of_file == file.generation));
                with_file += 1;
            }
            let pages = (line.end - line.start) as usize / guest::page_size();
            kinds.insert(match line.path.as_str() {
                path if path == executable => format!("program {}", line.rights),
                path if path.starts_with('[') => path.to_owned(),
                _ => format!("{pages} pages"),
            });
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        // The program and the C library.
        assert!(with_file >= 2, "{with_file} files of code");
        let huge_pages = RESERVED_PAGE / guest::page_size() as u64;
        let huge = format!("{huge_pages} pages");
        for kind in [
            &format!("program {}", "r-xp"),
            // Of larger pages its first one has been written to before it was a mapping of its own.
            &format!(
                "program {}",
                if guest::page_size() == 4096 {
                    "rw-p"
                } else {
                    "r-xp"
                }
            ),
            "[heap]",
            "[stack]",
            "[vdso]",
            "11 pages",
            "12 pages",
            "13 pages",
            "14 pages",
            "15 pages",
            "16 pages",
            "17 pages",
            "18 pages",
            "19 pages",
            &huge,
        ] {
            assert!(
                kinds.contains(kind),
                "no mapping of the kind {kind} was compared: {kinds:?}, of {lines:x?}"
            );
        }
        let by_pages = |pages: u64| {
            *reported
                .iter()
                .find(|((start, end), _)| {
                    end - start == pages * guest::page_size() as u64
                        && lines
                            .iter()
                            .any(|line| line.start == *start && line.end == *end)
                })
                .unwrap()
                .1
        };
        let flags = |pages| {
            by_pages(pages).flags
                & (mapping_flag::LOCKED | mapping_flag::HUGETLB | mapping_flag::GROWSDOWN)
        };
        assert_eq!(flags(11), 0);
        assert_eq!(flags(19), mapping_flag::LOCKED);
        assert_eq!(flags(huge_pages), mapping_flag::HUGETLB);
        assert!(by_pages(17).path.ends_with("/deleted (deleted)"));
        let stack = reported
            .values()
            .find(|mapping| mapping.path == "[stack]")
            .unwrap();
        assert_ne!(stack.flags & mapping_flag::GROWSDOWN, 0, "{stack:x?}");
    });
}

#[test]
fn named_anonymous_memory_is_told_by_its_name() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = of_ourselves();
        let place = Place::new(2);
        let start = place.map(None, 0, libc::PROT_WRITE, libc::MAP_PRIVATE);
        // SAFETY: The mapping just made; the call reads a C string.
        let result = unsafe {
            start.write_volatile(1);
            libc::prctl(
                libc::PR_SET_VMA,
                libc::PR_SET_VMA_ANON_NAME,
                start,
                2 * guest::page_size(),
                c"a name".as_ptr(),
            )
        };
        let named = result == 0;
        // SAFETY: As above.
        unsafe { start.add(guest::page_size()).write_volatile(1) };
        let line = maps(guest::own_pid())
            .into_iter()
            .find(|line| line.start == start as u64)
            .unwrap();
        assert_eq!(line.path, if named { "[anon:a name]" } else { "" });
        let trace = Trace::finish(&session, &[]);
        let reported: Vec<&str> = faults_in(&trace, &place)
            .iter()
            .map(|(_, mapping)| mapping.path.as_str())
            .collect();
        assert_eq!(reported, ["", line.path.as_str()]);
    });
}

/// Addresses at which mappings are made, one after the other.
struct Place {
    start: *mut u8,
    pages: usize,
}

impl Place {
    fn new(pages: usize) -> Self {
        // SAFETY: A new mapping at an address of the kernel's choice. It has no rights, so that it is not
        // merged with its neighbours; two pages more keep them off what is mapped in its midst.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                (pages + 2) * guest::page_size(),
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Self {
            start: start.cast::<u8>().wrapping_add(guest::page_size()),
            pages,
        }
    }

    fn map(&self, file: Option<&File>, page: usize, rights: i32, flags: i32) -> *mut u8 {
        let (fd, anonymous) = file.map_or((-1, libc::MAP_ANONYMOUS), |file| (file.as_raw_fd(), 0));
        // SAFETY: The range is ours; nobody else uses what was mapped there.
        let start = unsafe {
            libc::mmap(
                self.start.cast(),
                self.pages * guest::page_size(),
                libc::PROT_READ | rights,
                libc::MAP_FIXED | flags | anonymous,
                fd,
                (page * guest::page_size()) as i64,
            )
        };
        assert_eq!(start.cast(), self.start, "{}", io::Error::last_os_error());
        self.start
    }

    fn unmap(&self) {
        // SAFETY: As in `map`.
        let result = unsafe { libc::munmap(self.start.cast(), self.pages * guest::page_size()) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn forget_pages(&self) {
        // SAFETY: As in `map`.
        let result = unsafe {
            libc::madvise(
                self.start.cast(),
                self.pages * guest::page_size(),
                libc::MADV_DONTNEED,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn protect(&self, rights: i32) {
        // SAFETY: As in `map`.
        let result =
            unsafe { libc::mprotect(self.start.cast(), self.pages * guest::page_size(), rights) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn read(&self) {
        // SAFETY: Mapped with the right to read.
        std::hint::black_box(unsafe { self.start.read_volatile() });
    }

    fn write(&self) {
        // SAFETY: Mapped with the right to write.
        unsafe { self.start.write_volatile(1) };
    }
}

/// The faults of this thread in a place that completed, with their mappings.
fn faults_in<'a>(
    trace: &'a Trace,
    place: &Place,
) -> Vec<(fault_tracer_uapi::FaultRecord, &'a Mapping)> {
    trace.assert_complete();
    trace.assert_resolved();
    let range = place.start as u64..place.start as u64 + (place.pages * guest::page_size()) as u64;
    trace
        .completed_by(own_tid())
        .into_iter()
        .filter(|(fault, _)| range.contains(&fault.address()))
        .map(|(fault, mapping)| (fault, mapping.unwrap()))
        .collect()
}

fn new_file(path: &Path, pages: usize) -> File {
    fs::write(path, vec![7; pages * guest::page_size()]).unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn each_fault_names_the_mapping_at_its_time() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let (file_a, file_b) = (new_file(&a, 8), new_file(&b, 8));
        let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
        let place = Place::new(2);
        let session = of_ourselves();
        let (private, shared) = (libc::MAP_PRIVATE, libc::MAP_SHARED);
        let write = libc::PROT_WRITE;
        // In turns, so that each mapping comes again at the place of every other.
        let mut expected = Vec::new();
        for _ in 0..20 {
            for (file, path) in [(Some(&file_a), a), (Some(&file_b), b), (None, "")] {
                for page in [0, 3] {
                    let page = if file.is_some() { page } else { 0 };
                    for flags in [private, shared] {
                        place.map(file, page, write, flags);
                        place.write();
                        let path = if file.is_none() && flags == shared {
                            "/dev/zero (deleted)"
                        } else {
                            path
                        };
                        let kind = if flags == private { 'p' } else { 's' };
                        let offset = (page * guest::page_size()) as u64;
                        expected.push((path, offset, format!("rw-{kind}")));
                        place.forget_pages();
                        place.protect(libc::PROT_READ);
                        place.read();
                        expected.push((path, offset, format!("r--{kind}")));
                        place.unmap();
                    }
                }
            }
        }
        let trace = Trace::finish(&session, &[]);
        let faults = faults_in(&trace, &place);
        let reported: Vec<_> = faults
            .iter()
            .map(|(_, mapping)| {
                // Of private anonymous memory the kernel keeps the address there.
                let offset = if mapping.flags & mapping_flag::FILE == 0 {
                    assert_eq!(mapping.offset, mapping.start, "{mapping:x?}");
                    0
                } else {
                    mapping.offset
                };
                (mapping.path.as_str(), offset, mapping.rights())
            })
            .collect();
        assert_eq!(reported.len(), expected.len());
        for (i, (reported, expected)) in reported.iter().zip(&expected).enumerate() {
            assert_eq!(reported, expected, "fault {i}");
        }
        for (fault, mapping) in faults {
            assert_eq!(
                (mapping.start, mapping.end),
                (
                    place.start as u64,
                    place.start as u64 + 2 * guest::page_size() as u64
                )
            );
            assert_eq!(
                mapping.flags & mapping_flag::FILE != 0,
                fault.flags() & fault_flag::FILE != 0
            );
        }
    });
}

/// Maps one file after the other at the same place, each closed before the next is opened, and checks that
/// each fault names its file. `file` makes the file of a turn and says what it is called, `after` ends it.
fn names_of_files_in_turn(turns: usize, file: impl Fn(usize) -> PathBuf, after: impl Fn(&Path)) {
    let place = Place::new(1);
    let session = of_ourselves();
    let mut expected = Vec::new();
    for turn in 0..turns {
        let path = file(turn);
        let opened = File::open(&path).unwrap();
        place.map(Some(&opened), 0, 0, libc::MAP_PRIVATE);
        place.read();
        place.unmap();
        let metadata = opened.metadata().unwrap();
        expected.push((path.to_str().unwrap().to_owned(), metadata.ino()));
        drop(opened);
        after(&path);
    }
    let trace = Trace::finish(&session, &[]);
    let reported: Vec<_> = faults_in(&trace, &place)
        .iter()
        .map(|(_, mapping)| (mapping.path.clone(), mapping.inode))
        .collect();
    assert_eq!(reported.len(), expected.len());
    let wrong: Vec<_> = reported
        .iter()
        .zip(&expected)
        .filter(|(reported, expected)| reported != expected)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {turns} faults name another file than the one mapped, such as (reported, mapped) {:?}",
        wrong.len(),
        wrong[0]
    );
}

#[test]
fn files_that_stay_are_told_apart() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let path = |turn: usize| {
            let path = folder.path().join(format!("file {turn}"));
            new_file(&path, 1);
            path
        };
        names_of_files_in_turn(500, path, |_| {});
    });
}

/// Where a file is made right after another was removed, many file systems give it the same inode number,
/// and the kernel the same memory for file, name and inode.
#[test]
fn files_that_are_removed_are_told_apart() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut folders = vec![tempfile::tempdir().unwrap()];
        folders.push(tempfile::tempdir_in("/dev/shm").unwrap());
        for folder in folders {
            let path = |turn: usize| {
                let path = folder.path().join(format!("file {turn}"));
                new_file(&path, 1);
                path
            };
            names_of_files_in_turn(500, path, |path| fs::remove_file(path).unwrap());
        }
    });
}

#[test]
fn names_of_the_same_file_are_told_apart() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let first = folder.path().join("first");
        new_file(&first, 1);
        let path = |turn: usize| {
            let path = folder.path().join(format!("name {}", turn % 3));
            if turn < 3 {
                fs::hard_link(&first, &path).unwrap();
            }
            path
        };
        names_of_files_in_turn(30, path, |_| {});
    });
}

/// A folder that shows another one through overlayfs, until it is dropped.
struct Overlay(PathBuf);

impl Overlay {
    /// Shows `lower` in a new folder below `folder`.
    fn new(folder: &Path, name: &str, lower: &Path) -> Self {
        let [shown, upper, work] = ["", "-upper", "-work"].map(|part| {
            let path = folder.join(format!("{name}{part}"));
            fs::create_dir(&path).unwrap();
            path
        });
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        succeeds(
            Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o", &options])
                .arg(&shown),
        );
        Self(shown)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        succeeds(Command::new("umount").arg(&self.0));
    }
}

fn succeeds(command: &mut Command) {
    let output = command.output().expect("cannot run it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// As in two containers of one image: the pages are those of one file, the names are not.
#[test]
fn one_file_below_two_overlays_is_told_by_the_name_that_was_opened() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let lower = folder.path().join("lower");
        fs::create_dir(&lower).unwrap();
        new_file(&lower.join("file"), 1);
        let overlays = ["a", "b"].map(|name| Overlay::new(folder.path(), name, &lower));
        let path = |turn: usize| overlays[turn % 2].0.join("file");
        names_of_files_in_turn(30, path, |_| {});
    });
}

#[test]
fn a_renamed_file_is_told_by_its_new_name() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let name = |turn: usize| folder.path().join(format!("name {turn}"));
        new_file(&name(0), 1);
        let path = |turn: usize| {
            if turn > 0 {
                fs::rename(name(turn - 1), name(turn)).unwrap();
            }
            name(turn)
        };
        names_of_files_in_turn(30, path, |_| {});
    });
}

/// A mapping that stays is known again by counts of what changes; a new name must not slip through.
#[test]
fn a_file_renamed_while_it_is_mapped_is_told_by_its_new_name() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let name = |turn: usize| folder.path().join(format!("name {turn}"));
        let file = new_file(&name(0), 1);
        let place = Place::new(1);
        let session = of_ourselves();
        place.map(Some(&file), 0, libc::PROT_WRITE, libc::MAP_SHARED);
        let mut expected = Vec::new();
        for turn in 0..30 {
            if turn > 0 {
                fs::rename(name(turn - 1), name(turn)).unwrap();
            }
            // The first fault compares all of the mapping, the others its counts.
            for _ in 0..3 {
                place.forget_pages();
                place.write();
                expected.push(name(turn).to_str().unwrap().to_owned());
            }
        }
        let trace = Trace::finish(&session, &[]);
        let reported: Vec<_> = faults_in(&trace, &place)
            .iter()
            .map(|(_, mapping)| mapping.path.clone())
            .collect();
        assert_eq!(reported, expected);
    });
}

/// Faults in a mapping that stays, each time after `change` was called with the turn, are reported by the path that it
/// gives.
fn names_while_mapped(
    place: &Place,
    file: &File,
    turns: usize,
    mut change: impl FnMut(usize) -> std::path::PathBuf,
) {
    let session = of_ourselves();
    place.map(Some(file), 0, libc::PROT_WRITE, libc::MAP_SHARED);
    let mut expected = Vec::new();
    for turn in 0..turns {
        let path = change(turn);
        for _ in 0..3 {
            place.forget_pages();
            place.write();
            expected.push(path.to_str().unwrap().to_owned());
        }
    }
    let trace = Trace::finish(&session, &[]);
    let reported: Vec<_> = faults_in(&trace, place)
        .iter()
        .map(|(_, mapping)| mapping.path.clone())
        .collect();
    assert_eq!(reported, expected);
}

#[test]
fn a_file_whose_folders_are_renamed_while_it_is_mapped_is_told_by_its_new_path() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let name = |turn: usize| folder.path().join(format!("folder {turn}"));
        let path = |turn: usize| name(turn).join("in/a/file");
        fs::create_dir_all(path(0).parent().unwrap()).unwrap();
        let file = new_file(&path(0), 1);
        names_while_mapped(&Place::new(1), &file, 30, |turn| {
            if turn > 0 {
                fs::rename(name(turn - 1), name(turn)).unwrap();
            }
            path(turn)
        });
    });
}

#[test]
fn a_file_that_is_replaced_while_it_is_mapped_is_told_as_deleted() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let name = folder.path().join("file");
        let file = new_file(&name, 1);
        names_while_mapped(&Place::new(1), &file, 3, |turn| {
            if turn != 1 {
                return if turn == 0 {
                    name.clone()
                } else {
                    deleted(&name)
                };
            }
            let other = folder.path().join("other");
            new_file(&other, 1);
            fs::rename(&other, &name).unwrap();
            deleted(&name)
        });
    });
}

#[test]
fn a_file_that_is_unlinked_while_it_is_mapped_is_told_as_deleted() {
    guest::test(|_| {
        let _module = module::load_idle();
        for folder in ["/dev/shm", "/var/tmp"] {
            let folder = tempfile::tempdir_in(folder).unwrap();
            let name = folder.path().join("file");
            let file = new_file(&name, 1);
            // Nothing is renamed on the machine meanwhile.
            names_while_mapped(&Place::new(1), &file, 3, |turn| {
                if turn == 1 {
                    fs::remove_file(&name).unwrap();
                }
                if turn == 0 {
                    name.clone()
                } else {
                    deleted(&name)
                }
            });
        }
    });
}

/// What `/proc/PID/maps` calls a file that is in its folder no more.
fn deleted(path: &std::path::Path) -> std::path::PathBuf {
    format!("{} (deleted)", path.display()).into()
}

/// Several threads fault in places that another replaces all the time.
#[test]
fn mappings_replaced_under_other_threads_are_told_rightly() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<(u64, String, File)> = (0..8)
            .map(|number| {
                let path = folder.path().join(format!("file {number}"));
                let file = new_file(&path, 8);
                let inode = file.metadata().unwrap().ino();
                (inode, path.to_str().unwrap().to_owned(), file)
            })
            .collect();
        let place = Place::new(4);
        place.map(None, 0, 0, libc::MAP_PRIVATE);
        let session = of_ourselves();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (stop, start) = (&stop, place.start as usize);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        for page in 0..4 {
                            let address = (start + page * guest::page_size()) as *const u8;
                            // SAFETY: Something readable is mapped there at any time.
                            std::hint::black_box(unsafe { address.read_volatile() });
                        }
                    }
                });
            }
            for turn in 0..10_000 {
                let (_, _, file) = &files[turn % files.len()];
                // Replaced at once: there is no time at which nothing is mapped.
                let offset = turn / 3 % 4;
                place.map(
                    (turn % 5 != 0).then_some(file),
                    offset,
                    0,
                    libc::MAP_PRIVATE,
                );
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let trace = Trace::finish(&session, &[]);
        trace.assert_complete();
        trace.assert_resolved();
        let range = place.start as u64..place.start as u64 + 4 * guest::page_size() as u64;
        let mut of_files = 0;
        for (fault, mapping) in trace.resolved().into_iter().flatten() {
            if !range.contains(&fault.address()) {
                continue;
            }
            let mapping = mapping.unwrap();
            let is_file = fault.flags() & fault_flag::FILE != 0;
            assert_eq!(
                mapping.flags & mapping_flag::FILE != 0,
                is_file,
                "{mapping:x?}"
            );
            let known = files
                .iter()
                .any(|(inode, path, _)| (*inode, path) == (mapping.inode, &mapping.path));
            assert_eq!(known, is_file, "{mapping:x?}");
            of_files += u64::from(is_file);
        }
        // A fault brings more of a file where pages are larger.
        let least = if guest::page_size() == 4096 { 500 } else { 200 };
        assert!(of_files > least, "{of_files} faults in files");
    });
}

#[test]
fn a_thousand_mappings_at_once_are_told_apart() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = new_file(&path, 4);
        let places: Vec<Place> = (0..4000).map(|_| Place::new(1)).collect();
        let session = of_ourselves();
        // More than there are numbers, so that numbers are given again; and each twice.
        for (i, place) in places.iter().enumerate() {
            place.map(Some(&file), i % 4, 0, libc::MAP_PRIVATE);
        }
        for _ in 0..2 {
            for place in &places {
                place.read();
                place.forget_pages();
            }
        }
        let trace = Trace::finish(&session, &[]);
        trace.assert_complete();
        trace.assert_resolved();
        let expected: BTreeMap<u64, u64> = places
            .iter()
            .enumerate()
            .map(|(i, place)| (place.start as u64, (i % 4 * guest::page_size()) as u64))
            .collect();
        let mut seen = 0;
        for (fault, mapping) in trace.completed_by(own_tid()) {
            if let Some(offset) = expected.get(&fault.address()) {
                let mapping = mapping.unwrap();
                assert_eq!(
                    (mapping.start, mapping.offset, mapping.path.as_str()),
                    (fault.address(), *offset, path.to_str().unwrap())
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 8000);
    });
}

#[test]
fn a_path_of_almost_4096_bytes_is_reported() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        // A path that a system call takes at once is at most 4,095 bytes long.
        let mut path = folder.path().to_owned();
        while path.as_os_str().len() < 3840 {
            path.push("d".repeat(199));
        }
        path.push("f".repeat(4094 - path.as_os_str().len()));
        assert_eq!(path.as_os_str().len(), 4095);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        names_of_files_in_turn(
            1,
            |_| {
                new_file(&path, 1);
                path.clone()
            },
            |_| {},
        );
    });
}

/// Makes a file below nested folders, whose path is that long, step by step: no system call takes such a path.
/// Gives the file.
fn deep_file(folder: &Path, length: usize, name: &str) -> File {
    let mut at = File::open(folder).unwrap();
    let mut so_far = folder.as_os_str().len();
    while so_far + 1 + name.len() < length {
        // What is left before the name, but for its slash.
        let left = length - so_far - 1 - name.len();
        let part = "d".repeat(if left > 400 {
            199
        } else if left > 200 {
            left - 200
        } else {
            left - 1
        });
        rustix::fs::mkdirat(&at, part.as_str(), 0o700.into()).unwrap();
        at = rustix::fs::openat(
            &at,
            part.as_str(),
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap()
        .into();
        so_far += 1 + part.len();
    }
    assert_eq!(so_far + 1 + name.len(), length);
    let mut file: File = rustix::fs::openat(
        &at,
        name,
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CREATE,
        0o600.into(),
    )
    .unwrap()
    .into();
    io::Write::write_all(&mut file, &vec![7; guest::page_size()]).unwrap();
    file
}

/// The path that the fault in a file's mapping is reported with, in rings of that size.
fn path_reported(file: &File, ring_bytes: u64) -> String {
    let session = Session::configured(Config {
        ring_bytes,
        flags: session_flag::SIDEBAND,
        ..config()
    });
    let place = Place::new(1);
    place.map(Some(file), 0, 0, libc::MAP_PRIVATE);
    session.add(guest::own_pid()).unwrap();
    place.read();
    session.remove(guest::own_pid()).unwrap();
    let trace = Trace::finish(&session, &[]);
    place.unmap();
    let faults = faults_in(&trace, &place);
    assert_eq!(faults.len(), 1);
    faults[0].1.path.clone()
}

#[test]
fn of_a_path_that_is_too_long_its_end_is_reported() {
    guest::test(|_| {
        let _module = module::load_idle();
        let name = "the-name-of-the-file";
        // The paths of two sizes at the edge of what the largest ring and the smallest hold.
        let mut edges = vec![(16 << 10, 4095)];
        if guest::page_size() == 4096 {
            edges.push((4096, 1663));
        }
        for (ring_bytes, longest) in edges {
            for (length, cut) in [(longest, false), (longest + 1, true), (6000, true)] {
                let folder = tempfile::tempdir().unwrap();
                let file = deep_file(folder.path(), length, name);
                let reported = path_reported(&file, ring_bytes);
                if cut {
                    assert_eq!(reported, format!(".../{name}"), "{length} bytes");
                } else {
                    assert_eq!(reported.len(), length);
                    assert!(reported.ends_with(&format!("/{name}")), "{reported}");
                }
            }
        }
    });
}

// ---------------------------------------------------------------------------------------------
// Tasks
// ---------------------------------------------------------------------------------------------

/// The records of a process: (event, name, path), in order; ends are "exit".
fn story(trace: &Trace, pid: u32) -> Vec<(u32, &str, &str)> {
    trace
        .tasks()
        .into_iter()
        .filter(|task| task.pid == pid)
        .map(|task| (task.event, task.comm.as_str(), task.path.as_str()))
        .collect()
}

#[test]
fn a_shell_and_its_child_are_told_by_name_and_path() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (pid, trace) = run(config(), "sh", &["-c", "uname -a >/dev/null; exit 0"]);
        let canonical = |name| {
            find(name)
                .canonicalize()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let shell = canonical("sh");
        let own = fs::read_to_string("/proc/thread-self/comm").unwrap();
        let own = own.trim_end();
        let of_shell = story(&trace, pid);
        assert_eq!(of_shell[0].0, task_event::PRESENT);
        assert_eq!(of_shell[0].1, own, "the name before it executed a program");
        let executed: Vec<_> = of_shell
            .iter()
            .filter(|(event, ..)| *event == task_event::EXEC)
            .collect();
        assert_eq!(executed, [&(task_event::EXEC, "sh", shell.as_str())]);
        let child = trace
            .tasks()
            .into_iter()
            .find(|task| task.event == task_event::FORK)
            .unwrap();
        assert_eq!((child.parent, child.comm.as_str()), (pid, "sh"));
        assert_eq!(child.counters, (0, 0));
        let uname = canonical("uname");
        let of_child: Vec<_> = story(&trace, child.pid)
            .into_iter()
            .filter(|(event, ..)| *event != task_event::RENAME)
            .collect();
        assert_eq!(
            of_child,
            [
                (task_event::FORK, "sh", ""),
                (task_event::EXEC, "uname", uname.as_str())
            ]
        );
        assert_balanced(&trace);
    });
}

#[test]
fn new_names_of_processes_and_threads_are_reported() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = of_ourselves();
        let set_name = |name: &str| {
            let name = CString::new(name).unwrap();
            // SAFETY: The call reads a C string.
            unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
        };
        let before = fs::read_to_string("/proc/thread-self/comm").unwrap();
        set_name("fifteen letters and more");
        let thread = std::thread::Builder::new()
            .name("named thread".into())
            .spawn(own_tid)
            .unwrap()
            .join()
            .unwrap();
        // Another thread's name, by its file.
        let (send, receive) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            send.send(own_tid()).unwrap();
            stopped.recv().ok();
        });
        let other_tid = receive.recv().unwrap();
        fs::write(format!("/proc/self/task/{other_tid}/comm"), "by another").unwrap();
        drop(stop);
        other.join().unwrap();
        set_name(before.trim_end());
        // Whoever joins a thread goes on when it has given up its memory: a little before its end.
        for tid in [thread, other_tid] {
            while Path::new(&format!("/proc/self/task/{tid}")).exists() {
                std::thread::yield_now();
            }
        }
        let trace = Trace::finish(&session, &[]);
        let renamed = |tid: u32| -> Vec<String> {
            trace
                .tasks()
                .into_iter()
                .filter(|task| task.tid == tid && task.event == task_event::RENAME)
                .map(|task| {
                    assert_eq!(task.pid, std::process::id(), "{task:?}");
                    task.comm.clone()
                })
                .collect()
        };
        assert_eq!(renamed(own_tid()), ["fifteen letters", before.trim_end()]);
        assert_eq!(renamed(thread), ["named thread"]);
        assert_eq!(renamed(other_tid), ["by another"]);
        let exits: BTreeSet<u32> = trace.exits().iter().map(|exit| exit.tid).collect();
        assert_eq!(exits, BTreeSet::from([thread, other_tid]));
    });
}

#[test]
fn a_thousand_children_of_a_millisecond_each_begin_and_end() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (pid, trace) = run(
            config(),
            WORKLOAD,
            &["children", "--count", "1000", "--pages", "10"],
        );
        let forks: BTreeMap<u32, &Task> = trace
            .tasks()
            .into_iter()
            .filter(|task| task.event == task_event::FORK)
            .map(|task| (task.tid, task))
            .collect();
        let exits: BTreeMap<u32, u64> = trace
            .exits()
            .into_iter()
            .map(|exit| (exit.tid, exit.time_ns))
            .collect();
        assert_eq!((forks.len(), exits.len()), (1000, 1001));
        for (tid, fork) in forks {
            assert_eq!(
                (fork.pid, fork.parent, fork.from_id),
                (tid, pid, pid),
                "{fork:?}"
            );
            assert_eq!(
                (fork.counters, fork.comm.as_str()),
                ((0, 0), WORKLOAD),
                "{fork:?}"
            );
            assert!(fork.time_ns < exits[&tid], "{fork:?}");
        }
        assert_balanced(&trace);
    });
}

/// `CLONE_PARENT`: the mappings are those of the maker, which is not the parent.
#[test]
fn a_process_that_is_made_for_ones_parent_is_reported_with_both() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (pid, trace) = run(
            config(),
            WORKLOAD,
            &[
                "children", "--count", "5", "--pages", "10", "--how", "sibling",
            ],
        );
        let tasks = trace.tasks();
        let forks = tasks.iter().filter(|task| task.event == task_event::FORK);
        let origins: Vec<_> = forks
            .map(|fork| {
                assert_eq!(fork.pid, fork.tid, "{fork:?}");
                (fork.parent, fork.from_id)
            })
            .collect();
        assert_eq!(origins, [(std::process::id(), pid); 5]);
        assert_balanced(&trace);
    });
}

#[test]
fn all_threads_of_a_running_process_are_reported() {
    guest::test(|_| {
        let _module = module::load_idle();
        let program = Program::load(&["spin", "--threads", "8", "--pages", "32"]);
        let folder = format!("/proc/{}/task", program.pid());
        let threads = || -> BTreeMap<u32, String> {
            fs::read_dir(&folder)
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    let comm = fs::read_to_string(entry.path().join("comm")).unwrap();
                    let tid = entry.file_name().to_str().unwrap().parse().unwrap();
                    (tid, comm.trim_end().to_owned())
                })
                .collect()
        };
        while threads().len() != 9 {
            std::thread::yield_now();
        }
        let expected = threads();
        let session = Session::configured(config());
        session.add(program.pid()).unwrap();
        while session.totals().hits < 1000 {
            std::thread::yield_now();
        }
        let trace = Trace::finish(&session, &[]);
        let program_path = find(WORKLOAD).canonicalize().unwrap();
        let pid = program.pid().unsigned_abs();
        program.kill();
        trace.assert_complete();
        trace.assert_resolved();
        // At the beginning with the path of the program, and at the end.
        let path = program_path.to_str().unwrap();
        for (event, path) in [(task_event::PRESENT, path), (task_event::ALIVE, "")] {
            let reported: BTreeMap<u32, String> = trace
                .tasks()
                .into_iter()
                .filter(|task| task.event == event)
                .map(|task| {
                    assert_eq!(
                        (task.pid, task.parent, task.from_id),
                        (pid, std::process::id(), task.tid),
                        "{task:?}"
                    );
                    assert_eq!(task.path, path, "{task:?}");
                    (task.tid, task.comm.clone())
                })
                .collect();
            assert_eq!(reported, expected);
        }
        // And of the first once more, when all had been emitted.
        assert_eq!(trace.tasks().len(), 2 * expected.len() + 1);
        let present = trace.tasks().into_iter();
        let last = present.filter(|task| task.event == task_event::PRESENT);
        assert_eq!(
            last.map(|task| (task.time_ns, task.tid)).max().unwrap().1,
            pid
        );
        for record in trace.in_time_order() {
            if let Record::Fault(fault) = record {
                assert!(expected.contains_key(&fault.tid()), "{fault:x?}");
            }
        }
    });
}

#[test]
fn a_thread_that_executes_a_program_takes_over_the_process_and_keeps_its_counters() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (_, trace) = run(
            config(),
            WORKLOAD,
            &[
                "children",
                "--count",
                "20",
                "--pages",
                "20",
                "--how",
                "thread-exec",
            ],
        );
        let balance = assert_balanced(&trace);
        assert_eq!(balance.took_over, 20, "{balance:?}");
        for task in trace.tasks() {
            if task.event == task_event::EXEC {
                assert_eq!(task.tid, task.pid, "{task:?}");
                assert_eq!(
                    task.path,
                    find(WORKLOAD).canonicalize().unwrap().to_str().unwrap()
                );
            }
        }
    });
}

// ---------------------------------------------------------------------------------------------
// The balance of each thread
// ---------------------------------------------------------------------------------------------

#[test]
fn every_thread_balances_in_a_turmoil_of_forks_threads_programs_and_kills() {
    guest::test(|_| {
        let _module = module::load_idle();
        for seed in ["1", "2", "3"] {
            let large = Config {
                ring_bytes: 64 << 20,
                ..config()
            };
            let (_, trace) = run(large, WORKLOAD, &["turmoil", "--seed", seed]);
            let Balance {
                threads,
                completed,
                took_over,
            } = assert_balanced(&trace);
            // What the first process does by itself; who is killed when, and what is left undone by that, is
            // nobody's choice.
            assert!(
                threads > 20 && completed > 500 && took_over > 0,
                "seed {seed}: {threads} threads, {completed} faults, {took_over} took over: too few"
            );
        }
    });
}

#[test]
fn every_thread_balances_in_a_pipeline_of_a_shell() {
    guest::test(|_| {
        let _module = module::load_idle();
        let pipeline = "cat /proc/cpuinfo /etc/passwd | tr a-z A-Z | sort -u | (head -n 3; wc -l) \
                        >/dev/null; for i in 1 2 3 4 5; do echo $(uname -r | cut -c1); done >/dev/null";
        let (_, trace) = run(config(), "sh", &["-c", pipeline]);
        let balance = assert_balanced(&trace);
        assert!(balance.threads > 10, "{balance:?}");
    });
}

#[test]
fn every_thread_balances_in_a_compilation() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("small.c");
        fs::write(
            &source,
            "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n",
        )
        .unwrap();
        let program = folder.path().join("small");
        let large = Config {
            ring_bytes: 64 << 20,
            ..config()
        };
        let (_, trace) = run(
            large,
            "gcc",
            &[
                "-O2",
                "-o",
                program.to_str().unwrap(),
                source.to_str().unwrap(),
            ],
        );
        let balance = assert_balanced(&trace);
        // The driver, compiler, assembler, collect2 and linker.
        assert!(
            balance.threads >= 5 && balance.completed > 1000,
            "{balance:?}"
        );
    });
}

// ---------------------------------------------------------------------------------------------
// Losses
// ---------------------------------------------------------------------------------------------

/// Runs a program of many mappings and processes on one CPU with a tiny ring. `meanwhile` takes from it while
/// the program runs.
fn with_tiny_rings(mode: u32, meanwhile: impl Fn(&Session) -> Vec<Vec<u64>>) -> Trace {
    let mut program = Program::new(
        WORKLOAD,
        [
            "children", "--count", "60", "--pages", "40", "--how", "exec",
        ],
        Some(0),
    );
    let session = Session::configured(Config {
        ring_bytes: 32 << 10,
        mode,
        ..config()
    });
    session.add(program.pid()).unwrap();
    program.go();
    let drained = meanwhile(&session);
    program.wait().assert_success();
    Trace::finish(&session, &drained)
}

/// Drains whenever faults were dropped since the last time, until no target is left: so each time there is a
/// loss to be emitted, however fast the machine is.
fn after_each_loss(session: &Session) -> Vec<Vec<u64>> {
    let mut drained = vec![Vec::new(); session.info().cpus as usize];
    let mut seen = vec![0; drained.len()];
    while session.info().live_targets != 0 {
        for (cpu, words) in drained.iter_mut().enumerate() {
            let dropped = session.counters(cpu as u32).unwrap().dropped;
            if dropped > seen[cpu] {
                words.extend(session.drain_words(cpu as u32));
                seen[cpu] = dropped;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    drained
}

#[test]
fn losses_are_told_where_and_when_they_were_and_add_up() {
    guest::test(|_| {
        let _module = module::load_idle();
        let trace = with_tiny_rings(mode::DISCARD, after_each_loss);
        let mut lost_records = 0;
        for (cpu, (records, account)) in trace.cpus.iter().zip(&trace.accounts).enumerate() {
            let losses: Vec<_> = records
                .iter()
                .filter_map(|record| match record {
                    Record::Lost(lost) => Some(lost),
                    _ => None,
                })
                .collect();
            for lost in &losses {
                assert!(lost.count > 0 && lost.time_ns <= lost.last_ns, "{lost:?}");
                assert!(lost.count > 1 || lost.time_ns == lost.last_ns, "{lost:?}");
            }
            let reported: u64 = losses.iter().map(|lost| lost.count).sum();
            assert_eq!(
                account.recorded + reported,
                account.hits,
                "CPU {cpu}: {account:?}"
            );
            lost_records += losses.len();
        }
        assert!(
            lost_records > 3,
            "{lost_records} losses reported: {:?}",
            trace.accounts
        );
        // What is known of a mapping stays right over losses.
        for faults in trace.resolved() {
            for (fault, mapping) in faults {
                if fault.mapping() != MAPPING_UNKNOWN {
                    assert_holds(mapping.expect("a number that was given"), &fault);
                }
            }
        }
    });
}

/// Twenty processes that nobody reads of meanwhile.
fn unread(ring_bytes: u64) -> Trace {
    let mut program = Program::new(
        WORKLOAD,
        [
            "children", "--count", "20", "--pages", "200", "--how", "exec",
        ],
        Some(0),
    );
    let session = Session::configured(Config {
        ring_bytes,
        ..config()
    });
    session.add(program.pid()).unwrap();
    program.go();
    program.wait().assert_success();
    Trace::finish(&session, &[])
}

/// What is recorded of tasks: ids and names differ from run to run, their number does not.
fn emitted_of_tasks(trace: &Trace) -> (u64, usize, usize) {
    let sideband_dropped = trace
        .accounts
        .iter()
        .map(|account| account.sideband_dropped)
        .sum();
    (sideband_dropped, trace.tasks().len(), trace.exits().len())
}

/// Beginnings and ends have room where faults have none: so with nothing read at all, each thread is known to
/// have missed as many faults as its own counters say. What is lost in the end is emitted as well.
#[test]
fn threads_begin_and_end_in_full_rings() {
    guest::test(|_| {
        let _module = module::load_idle();
        let all = unread(16 << 20);
        all.assert_complete();
        let (sideband_dropped, tasks, exits) = emitted_of_tasks(&all);
        assert_eq!((sideband_dropped, exits), (0, 21));
        let full = unread(64 << 10);
        let dropped: u64 = full.accounts.iter().map(|account| account.dropped).sum();
        assert!(dropped > 1000, "{:?}", full.accounts);
        assert_eq!(emitted_of_tasks(&full), (0, tasks, exits));
        let lost = |record: &&Record| matches!(record, Record::Lost(_));
        assert_eq!(
            full.cpus.iter().flatten().filter(lost).count(),
            1,
            "nothing was read: the end alone reported losses"
        );
        // Every thread but the first began at zero: they have taken all faults but those of the first.
        let begun: BTreeMap<u32, (u64, u64)> = full
            .tasks()
            .into_iter()
            .filter(|task| matches!(task.event, task_event::FORK | task_event::PRESENT))
            .map(|task| (task.tid, task.counters))
            .collect();
        let taken: u64 = full
            .exits()
            .into_iter()
            .map(|exit| {
                let (minor, major) = begun[&exit.tid];
                exit.counters.0 - minor + exit.counters.1 - major
            })
            .sum();
        let hits: u64 = full.accounts.iter().map(|account| account.hits).sum();
        assert!(
            taken <= hits && hits < taken + taken / 10,
            "{taken} faults completed, {hits} were tried"
        );
    });
}

/// Where even the reserve is full, what is not reported is counted.
#[test]
fn what_is_not_reported_tasks_is_counted() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (_, tasks, exits) = emitted_of_tasks(&unread(16 << 20));
        let (sideband_dropped, some_tasks, some_exits) =
            emitted_of_tasks(&unread(guest::page_size() as u64));
        assert!(sideband_dropped > 0);
        assert_eq!(
            (some_tasks + some_exits) as u64 + sideband_dropped,
            (tasks + exits) as u64
        );
    });
}

/// Overwritten records are gone with what they said: each mapping whose record is overwritten is emitted
/// anew before the next fault in it. So in what is left, which has no gap, whatever follows the first record
/// of a number is right.
#[test]
fn what_is_left_when_records_are_overwritten_can_be_resolved() {
    guest::test(|_| {
        let _module = module::load_idle();
        let trace = with_tiny_rings(mode::OVERWRITE, |_| Vec::new());
        let (mut resolved, mut unknown, mut before) = (0u64, 0u64, 0u64);
        for faults in trace.resolved() {
            for (fault, mapping) in faults {
                match mapping {
                    Some(mapping) => {
                        assert_holds(mapping, &fault);
                        resolved += 1;
                    }
                    None if fault.mapping() == MAPPING_UNKNOWN => unknown += 1,
                    None => before += 1,
                }
            }
        }
        let overwritten: u64 = trace
            .accounts
            .iter()
            .map(|account| account.overwritten)
            .sum();
        assert!(overwritten > 1000, "{:?}", trace.accounts);
        assert!(
            resolved > 100,
            "{resolved} resolved, {unknown} unknown, {before} before their mapping: {:?}",
            trace.accounts
        );
        assert_eq!(unknown, 0, "there is always room for a mapping");
        eprintln!("{resolved} resolved, {before} whose mapping was overwritten");
    });
}

#[test]
fn without_the_flag_there_are_faults_alone() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut program =
            Program::workload(&["children", "--count", "20", "--how", "exec"], None, None);
        let session = Session::running(Setup::default());
        session.add(program.pid()).unwrap();
        program.go();
        program.wait().assert_success();
        let recording = session.finish();
        recording.assert_complete();
        assert!(recording.len() > 1000);
        for fault in recording.cpus.iter().flatten() {
            assert_eq!(fault.mapping(), MAPPING_UNKNOWN, "{fault:x?}");
        }
    });
}

#[test]
fn each_clock_is_the_one_asked_for() {
    guest::test(|_| {
        let _module = module::load_idle();
        let clocks = [
            (clock::MONOTONIC, libc::CLOCK_MONOTONIC),
            (clock::BOOTTIME, libc::CLOCK_BOOTTIME),
            (clock::RAW, libc::CLOCK_MONOTONIC_RAW),
        ];
        let now = |id: i32| -> u64 {
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: The structure is ours.
            assert_eq!(unsafe { libc::clock_gettime(id, &raw mut time) }, 0);
            time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
        };
        let place = Place::new(1);
        // In this guest, which never slept and whose clock nobody adjusts, they may run alike: then any
        // would do, and the bounds are as close as they can be.
        for (clock, id) in clocks {
            for _ in 0..10 {
                let session = Session::configured(Config {
                    flags: session_flag::SIDEBAND,
                    clock,
                    ring_bytes: 1 << 20,
                    ..config()
                });
                session.add(guest::own_pid()).unwrap();
                place.map(None, 0, libc::PROT_WRITE, libc::MAP_PRIVATE);
                let before = now(id);
                place.write();
                let after = now(id);
                let trace = Trace::finish(&session, &[]);
                let faults = faults_in(&trace, &place);
                assert_eq!(faults.len(), 1);
                let (fault, mapping) = faults[0];
                assert!(
                    (before..=after).contains(&fault.time_ns),
                    "clock {clock}: {} is not between {before} and {after}",
                    fault.time_ns
                );
                // That of the first attempt: another may have come before the one that completed.
                assert!(
                    (before..=fault.time_ns).contains(&mapping.time_ns),
                    "clock {clock}: {} of the mapping, {} of the fault",
                    mapping.time_ns,
                    fault.time_ns
                );
            }
        }
    });
}

/// A record is whole whatever its length and wherever the ring ends.
#[test]
fn records_of_any_length_cross_the_end_of_the_ring_whole() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let session = Session::configured(Config {
            ring_bytes: 2 * guest::page_size() as u64,
            flags: session_flag::SIDEBAND,
            ..config()
        });
        let place = Place::new(1);
        let mut expected = Vec::new();
        let mut drained = vec![Vec::new(); session.info().cpus as usize];
        for turn in 0..400 {
            let path = folder.path().join("n".repeat(1 + turn * 7 % 250));
            let file = new_file(&path, 1);
            session.add(guest::own_pid()).unwrap();
            place.map(Some(&file), 0, 0, libc::MAP_PRIVATE);
            place.read();
            place.unmap();
            session.remove(guest::own_pid()).unwrap();
            expected.push(path.to_str().unwrap().to_owned());
            for (cpu, words) in drained.iter_mut().enumerate() {
                let new = session.drain_words(cpu as u32);
                parse(&new);
                words.extend(new);
            }
        }
        let trace = Trace::finish(&session, &drained);
        trace.assert_complete();
        trace.assert_resolved();
        let faults = trace.by(own_tid()).into_iter();
        let mut reported: Vec<&str> = faults
            .filter(|(fault, _)| fault.address() == place.start as u64)
            .map(|(_, mapping)| mapping.unwrap().path.as_str())
            .collect();
        // Further attempts of the same fault. Which these are, its counters do not tell: in between the thread
        // was not traced.
        reported.dedup();
        let mut turns = (0..400).zip(reported.iter().zip(&expected));
        let other = turns.find(|(_, (reported, made))| reported != made);
        assert_eq!((reported.len(), other), (expected.len(), None));
    });
}
