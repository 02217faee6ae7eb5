// SPDX-License-Identifier: GPL-2.0-only

//! Symbols of programs that this machine's compiler builds, and of none but these.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use fault_tracer_trace::{
    export::{Symbol, Symbols as _},
    BuildId, Code, FileId, Metadata, Name, Object, PageSize,
};
use fault_tracer_uapi::names::escape;
use proptest::prelude::*;

use crate::{changed_ns, Elf, Symbolizer};

/// A folder with a program in it.
struct Program {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

impl Program {
    /// A program in which a function of that name stands behind another of so many bytes.
    fn new(function: &str, padding: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let program = Self { folder, path };
        program.build(function, padding, &[]);
        program
    }

    fn build(&self, function: &str, padding: u32, options: &[&str]) {
        let source = format!(
            "void before(void) {{ __asm__ volatile(\".skip {padding}, 0x90\"); }}\n\
             int {function}(void) {{ __asm__ volatile(\".skip 64, 0x90\"); return 1; }}\n\
             int main(void) {{ before(); return {function}(); }}\n"
        );
        let file = self.folder.path().join("program.c");
        fs::write(&file, source).unwrap();
        // Not over the old one: a build replaces it.
        let new = self.folder.path().join("new");
        let mut command = Command::new("cc");
        command.args(["-O1", "-fno-inline", "-Wl,--build-id=sha1"]);
        run(command.args(options).arg(&file).arg("-o").arg(&new));
        fs::rename(new, &self.path).unwrap();
    }

    /// Which file it is, as it is recorded.
    fn file(&self) -> FileId {
        let metadata = self.path.metadata().unwrap();
        FileId {
            device: device_of(&self.path),
            inode: metadata.ino(),
            changed_ns: Some(changed_ns(&metadata)),
        }
    }

    fn elf(&self) -> Elf {
        Elf::read(&File::open(&self.path).unwrap())
            .unwrap()
            .expect("an ELF file")
    }

    /// The code of a function, as it is recorded.
    fn code_of(&self, function: &str) -> Code {
        let elf = self.elf();
        let symbols = run(Command::new("nm").arg(&self.path));
        let line = symbols
            .lines()
            .find(|line| line.ends_with(&format!(" T {function}")));
        let address = line.expect("a symbol").split(' ').next().unwrap();
        let address = u64::from_str_radix(address, 16).unwrap();
        let offset = (0..address + 1)
            .rev()
            .find(|&offset| {
                bias(&elf, offset).map(|bias| bias.wrapping_add(offset)) == Some(address)
            })
            .expect("an offset");
        Code {
            object: Arc::new(Object {
                name: self.path.to_str().unwrap().into(),
                build_id: elf
                    .build_id
                    .as_deref()
                    .map_or(BuildId::Absent, |digits| BuildId::Of(digits.into())),
                bias: bias(&elf, offset),
                file: Some(self.file()),
            }),
            offset,
        }
    }

    /// Puts the program's debug file, without its code, into a folder, by its build id.
    fn keep_debug(&self, folder: &Path) -> PathBuf {
        let build_id = self.elf().build_id.unwrap();
        let (first, rest) = build_id.split_at(2);
        let folder = folder.join(".build-id").join(first);
        fs::create_dir_all(&folder).unwrap();
        let debug = folder.join(format!("{rest}.debug"));
        run(Command::new("objcopy")
            .arg("--only-keep-debug")
            .arg(&self.path)
            .arg(&debug));
        debug
    }
}

/// As programs of this machine are mapped.
fn bias(elf: &Elf, offset: u64) -> Option<u64> {
    elf.bias(offset, PageSize::default())
}

#[test]
fn code_is_mapped_from_the_page_on_that_it_begins_in() {
    let program = Program::new("wanted", 0);
    program.build("wanted", 0, &["-Wl,-z,separate-code"]);
    let elf = program.elf();
    let code = (0..16).find(|page| bias(&elf, page << 12).is_some());
    // What stands before it is in the same page, if pages are large.
    let code = code.expect("code in the first 64 KiB") << 12;
    assert!(code != 0, "the file begins with its header");
    let large = PageSize::of_bytes(64 << 10).unwrap();
    assert_eq!(elf.bias(0, large), bias(&elf, code));
}

/// The device of a file, as a mapping of it has it where `stat` tells that of the superblock.
fn device_of(path: &Path) -> u64 {
    let metadata = path.metadata().unwrap();
    u64::from(rustix::fs::major(metadata.dev())) << 32
        | u64::from(rustix::fs::minor(metadata.dev()))
}

fn here(wall_offset_ns: i64) -> Metadata {
    Metadata {
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        wall_offset_ns,
        ..Metadata::default()
    }
}

fn symbolizer(debug_dirs: &[&Path]) -> Symbolizer {
    let dirs: Vec<_> = debug_dirs.iter().map(|&dir| dir.to_owned()).collect();
    Symbolizer::new(&here(0), &dirs)
}

fn symbol(name: &str, offset: u64) -> Option<(Name, u64)> {
    Some((name.into(), offset))
}

/// Its name, and how far behind its beginning the place is.
fn place(symbol: Symbol) -> (Name, u64) {
    let bytes = symbol.bytes.expect("the table says how long it is");
    assert!(symbol.offset < bytes, "{symbol:?}");
    (symbol.name, symbol.offset)
}

#[test]
fn symbols_of_the_file_that_ran() {
    let program = Program::new("wanted", 100);
    let mut code = program.code_of("wanted");
    let mut symbols = symbolizer(&[]);
    assert_eq!(symbols.symbol(&code, 0).map(place), symbol("wanted", 0));
    code.offset += 5;
    assert_eq!(symbols.symbol(&code, 0).map(place), symbol("wanted", 5));
    // Where the trace does not tell the address, the file does.
    let object = Object {
        bias: None,
        ..(*code.object).clone()
    };
    code.object = Arc::new(object);
    assert_eq!(symbols.symbol(&code, 0).map(place), symbol("wanted", 5));
    assert!(symbols.notes().is_empty());
}

#[test]
fn lines_and_inlined_functions() {
    let program = Program::new("wanted", 0);
    program.build("wanted", 0, &["-g"]);
    let mut symbols = symbolizer(&[]);
    let code = program.code_of("wanted");
    let line = symbols.line(&code, 0).expect("a line");
    // The program's source has `wanted` on its second line.
    assert!(line.ends_with("/program.c:2"), "{line}");
    assert_eq!(symbols.symbol(&code, 0).map(place), symbol("wanted", 0));

    let source = "static inline __attribute__((always_inline)) void inner(int *p) {\n\
                  *(volatile int *)p = 1; }\n\
                  int wanted(int *p) {\n inner(p); return 0; }\n\
                  int main(void) { int n; return wanted(&n); }\n";
    fs::write(program.folder.path().join("inline.c"), source).unwrap();
    let file = program.folder.path().join("inline.c");
    let mut command = Command::new("cc");
    command.args(["-O1", "-g", "-fno-inline", "-Wl,--build-id=sha1"]);
    run(command.arg(&file).arg("-o").arg(&program.path));
    let mut symbols = symbolizer(&[]);
    let code = program.code_of("wanted");
    let lines: Vec<_> = (0..16)
        .filter_map(|offset| {
            let code = Code {
                offset: code.offset + offset,
                ..code.clone()
            };
            symbols.line(&code, 0)
        })
        .collect();
    let inlined = lines
        .iter()
        .any(|line| line.ends_with("/inline.c:2 (inner, inlined)"));
    assert!(inlined, "{lines:?}");

    program.build("wanted", 0, &[]);
    assert_eq!(symbolizer(&[]).line(&program.code_of("wanted"), 0), None);
}

#[test]
fn names_are_demangled() {
    let program = Program::new("_ZN5hello5worldEi", 0);
    let code = program.code_of("_ZN5hello5worldEi");
    let found = symbolizer(&[]).symbol(&code, 0).map(place);
    assert_eq!(found, symbol("hello::world(int)", 0));
}

#[test]
fn code_that_does_not_lie_at_its_address() {
    let program = Program::new("wanted", 0);
    // The code is linked to lie elsewhere than its offset says.
    program.build("wanted", 70, &["-no-pie", "-Wl,-Ttext-segment=0x10000000"]);
    let code = program.code_of("wanted");
    assert_ne!(code.object.bias, Some(0));
    assert_eq!(
        symbolizer(&[]).symbol(&code, 0).map(place),
        symbol("wanted", 0)
    );
    let kept = tempfile::tempdir().unwrap();
    program.keep_debug(kept.path());
    program.build("other", 0, &[]);
    let found = symbolizer(&[kept.path()]).symbol(&code, 0).map(place);
    assert_eq!(found, symbol("wanted", 0));
}

#[test]
fn symbols_are_never_those_of_a_file_that_took_the_place() {
    let program = Program::new("wanted", 100);
    let code = program.code_of("wanted");
    let kept = tempfile::tempdir().unwrap();
    let debug = program.keep_debug(kept.path());
    program.build("other", 20, &[]);
    let mut symbols = symbolizer(&[]);
    for offset in code.offset - 200..code.offset + 200 {
        let code = Code {
            offset,
            ..code.clone()
        };
        assert_eq!(symbols.symbol(&code, 0).map(place), None);
    }
    let notes = symbols.notes();
    let [note] = &notes[..] else {
        panic!("{:?}", symbols.notes());
    };
    assert!(
        note.contains(&*code.object.name) && note.contains("replaced"),
        "{note}"
    );

    // With its debug file, they are there again: by build id, and as a folder of such ids.
    let folder = kept.path().join(".build-id");
    for dir in [kept.path(), &folder] {
        let mut symbols = symbolizer(&[Path::new("/no/such/folder"), dir]);
        assert_eq!(symbols.symbol(&code, 0).map(place), symbol("wanted", 0));
        assert!(symbols.notes().is_empty());
    }

    // A debug file under a wrong id is none.
    fs::copy(&program.path, debug).unwrap();
    assert_eq!(symbolizer(&[kept.path()]).symbol(&code, 0).map(place), None);

    // A pipe in their place keeps nobody waiting.
    fs::remove_file(&program.path).unwrap();
    run(Command::new("mkfifo").arg(&program.path));
    assert_eq!(symbolizer(&[]).symbol(&code, 0).map(place), None);
}

#[test]
fn a_copy_below_a_debug_folder_is_found_by_its_path() {
    let program = Program::new("wanted", 100);
    let code = program.code_of("wanted");
    let root = tempfile::tempdir().unwrap();
    let copy = root.path().join(program.path.strip_prefix("/").unwrap());
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::rename(&program.path, copy).unwrap();
    let mut symbols = symbolizer(&[]);
    assert_eq!(symbols.symbol(&code, 0).map(place), None);
    assert!(
        symbols.notes()[0].contains("No such file"),
        "{:?}",
        symbols.notes()
    );
    assert_eq!(
        symbolizer(&[root.path()]).symbol(&code, 0).map(place),
        symbol("wanted", 0)
    );
}

#[test]
fn a_file_without_build_id_is_believed_while_it_is_the_same_and_has_not_changed() {
    let program = Program::new("wanted", 0);
    program.build("wanted", 100, &["-Wl,--build-id=none"]);
    let code = program.code_of("wanted");
    assert_eq!(code.object.build_id, BuildId::Absent);
    let of = |file: Option<FileId>, metadata: &Metadata| {
        let mut symbols = Symbolizer::new(metadata, &[]);
        let object = Object {
            file,
            ..(*code.object).clone()
        };
        let found = symbols.symbol(
            &Code {
                object: Arc::new(object),
                offset: code.offset,
            },
            0,
        );
        assert_eq!(found.is_none() as usize, symbols.notes().len());
        found
    };
    let ran = program.file();
    assert_eq!(of(Some(ran), &here(0)).map(place), symbol("wanted", 0));
    let elsewhere = Metadata {
        host: "another machine".into(),
        ..here(0)
    };
    let mut symbols = Symbolizer::new(&elsewhere, &[]);
    let object = Object {
        file: Some(ran),
        ..(*code.object).clone()
    };
    let there = Code {
        object: Arc::new(object),
        ..code.clone()
    };
    assert_eq!(symbols.symbol(&there, 1).map(place), None);
    let [note] = &symbols.notes()[..] else {
        panic!("{:?}", symbols.notes());
    };
    let text = "the trace is of another machine, not of this machine: no symbols of";
    assert!(
        note.starts_with(text) && note.contains("--debug-dir"),
        "{note}"
    );
    assert_eq!(of(Some(ran), &elsewhere), None);
    // Another file of that name, such as the host's for a program in a container.
    for other in [
        None,
        Some(FileId {
            device: ran.device + 1,
            ..ran
        }),
        Some(FileId {
            inode: ran.inode + 1,
            ..ran
        }),
        Some(FileId {
            changed_ns: ran.changed_ns.map(|changed| changed - 1),
            ..ran
        }),
        Some(FileId {
            changed_ns: None,
            ..ran
        }),
    ] {
        assert_eq!(of(other, &here(0)), None, "{other:?}");
    }
    // One with a build id is another, whatever else is the same.
    program.build("wanted", 100, &[]);
    assert_eq!(of(Some(program.file()), &here(0)), None);
}

#[test]
fn a_file_that_was_not_read_while_it_ran_has_no_symbols() {
    let program = Program::new("wanted", 100);
    for options in [&["-Wl,--build-id=none"][..], &[]] {
        program.build("wanted", 100, options);
        let code = program.code_of("wanted");
        let object = Object {
            build_id: BuildId::Unread,
            ..(*code.object).clone()
        };
        let code = Code {
            object: Arc::new(object),
            ..code
        };
        let mut symbols = symbolizer(&[]);
        for _ in 0..2 {
            assert_eq!(symbols.symbol(&code, u64::MAX), None);
        }
        let notes = symbols.notes();
        let [note] = &notes[..] else {
            panic!("{:?}", symbols.notes());
        };
        assert!(note.contains("could not be read while it ran"), "{note}");
    }
}

#[test]
fn names_that_are_no_text_find_their_files() {
    let program = Program::new("wanted", 0);
    let mut code = program.code_of("wanted");
    let mut path = program.folder.path().as_os_str().as_bytes().to_vec();
    path.extend_from_slice(b"/\xff\\012\n");
    fs::rename(&program.path, OsStr::from_bytes(&path)).unwrap();
    code.object = Arc::new(Object {
        name: escape(&path).into(),
        ..(*code.object).clone()
    });
    assert_eq!(
        symbolizer(&[]).symbol(&code, 0).map(place),
        symbol("wanted", 0)
    );
}

proptest! {
    /// Whatever a program has in its file, reading it ends.
    #[test]
    fn any_file_is_read(
        flips in prop::collection::vec((0..2000usize, any::<u8>()), 1..8),
        offset in any::<u64>(),
    ) {
        let mut bytes = vec![0; 4000];
        File::open("/proc/self/exe").unwrap().read_exact(&mut bytes).unwrap();
        for (at, byte) in flips {
            bytes[at] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        if let Some(elf) = Elf::read(&File::open(path).unwrap()).unwrap() {
            let _ = bias(&elf, offset);
        }
    }
}
