// SPDX-License-Identifier: GPL-2.0-only

//! Symbols of programs that this machine's compiler builds, and of none but these.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use fault_tracer_client::Mapping;
use fault_tracer_trace::{
    export::{Symbol, Symbols as _},
    About, Code, LookAtFile as _, Object,
};
use fault_tracer_uapi::mapping_flag;
use proptest::prelude::*;
use rustix::fs::{major, minor};

use crate::{maps::code, parse_maps, Elf, Files, Symbolizer};

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
            .find(|&offset| elf.bias(offset).map(|bias| bias.wrapping_add(offset)) == Some(address))
            .expect("an offset");
        Code {
            object: Arc::new(Object {
                name: self.path.to_str().unwrap().into(),
                build_id: elf.build_id.as_deref().map(Into::into),
                bias: elf.bias(offset),
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

fn here(wall_offset_ns: i64) -> About {
    About {
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        wall_offset_ns,
        ..About::default()
    }
}

fn symbolizer(debug_dirs: &[&Path]) -> Symbolizer {
    let dirs: Vec<_> = debug_dirs.iter().map(|&dir| dir.to_owned()).collect();
    Symbolizer::new(&here(0), &dirs)
}

fn symbol(name: &str, offset: u64) -> Option<Symbol> {
    Some(Symbol {
        name: name.into(),
        offset,
    })
}

#[test]
fn symbols_of_the_file_that_ran() {
    let program = Program::new("wanted", 100);
    let mut code = program.code_of("wanted");
    let mut symbols = symbolizer(&[]);
    assert_eq!(symbols.symbol(&code, 0), symbol("wanted", 0));
    code.offset += 5;
    assert_eq!(symbols.symbol(&code, 0), symbol("wanted", 5));
    // Where the trace does not tell the address, the file does.
    let object = Object {
        bias: None,
        ..(*code.object).clone()
    };
    code.object = Arc::new(object);
    assert_eq!(symbols.symbol(&code, 0), symbol("wanted", 5));
    assert!(symbols.notes().is_empty());
}

#[test]
fn names_are_demangled() {
    let program = Program::new("_ZN5hello5worldEi", 0);
    let code = program.code_of("_ZN5hello5worldEi");
    let found = symbolizer(&[]).symbol(&code, 0);
    assert_eq!(found, symbol("hello::world(int)", 0));
}

#[test]
fn code_that_does_not_lie_at_its_address() {
    let program = Program::new("wanted", 0);
    // The code is linked to lie elsewhere than its offset says.
    program.build("wanted", 70, &["-no-pie", "-Wl,-Ttext-segment=0x10000000"]);
    let code = program.code_of("wanted");
    assert_ne!(code.object.bias, Some(0));
    assert_eq!(symbolizer(&[]).symbol(&code, 0), symbol("wanted", 0));
    let kept = tempfile::tempdir().unwrap();
    program.keep_debug(kept.path());
    program.build("other", 0, &[]);
    let found = symbolizer(&[kept.path()]).symbol(&code, 0);
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
        assert_eq!(symbols.symbol(&code, 0), None);
    }
    let [note] = symbols.notes() else {
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
        assert_eq!(symbols.symbol(&code, 0), symbol("wanted", 0));
        assert!(symbols.notes().is_empty());
    }

    // A debug file under a wrong id is none.
    fs::copy(&program.path, debug).unwrap();
    assert_eq!(symbolizer(&[kept.path()]).symbol(&code, 0), None);

    // A pipe in their place keeps nobody waiting.
    fs::remove_file(&program.path).unwrap();
    run(Command::new("mkfifo").arg(&program.path));
    assert_eq!(symbolizer(&[]).symbol(&code, 0), None);
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
    assert_eq!(symbols.symbol(&code, 0), None);
    assert!(
        symbols.notes()[0].contains("No such file"),
        "{:?}",
        symbols.notes()
    );
    assert_eq!(
        symbolizer(&[root.path()]).symbol(&code, 0),
        symbol("wanted", 0)
    );
}

#[test]
fn a_file_without_build_id_is_believed_while_it_has_not_changed() {
    let program = Program::new("wanted", 0);
    program.build("wanted", 100, &["-Wl,--build-id=none"]);
    let code = program.code_of("wanted");
    assert_eq!(code.object.build_id, None);
    let metadata = program.path.metadata().unwrap();
    let changed = metadata.ctime() as u64 * 1_000_000_000 + metadata.ctime_nsec() as u64;
    let at = |time_ns, about| Symbolizer::new(&about, &[]).symbol(&code, time_ns);
    assert_eq!(at(changed + 1, here(0)), symbol("wanted", 0));
    assert_eq!(at(changed, here(0)), None);
    assert_eq!(at(1, here(changed as i64)), symbol("wanted", 0));
    let elsewhere = About {
        host: "another machine".into(),
        ..here(0)
    };
    assert_eq!(at(changed + 1, elsewhere), None);
}

#[test]
fn mappings_of_this_process_name_its_files() {
    let mut files = Files::new();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
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
    let elf = Elf::read(&File::open(&me).unwrap()).unwrap().unwrap();
    assert_eq!(place.build_id.as_deref(), elf.build_id.as_deref());
    assert_eq!(place.bias, elf.bias(mapping.offset));
    assert!(place.build_id.is_some() && place.bias.is_some());
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
    assert_eq!(files.look(&other).build_id, None);
}

#[test]
fn a_number_that_is_given_to_another_file_is_read_again() {
    let program = Program::new("wanted", 0);
    let metadata = program.path.metadata().unwrap();
    let mapping = Mapping {
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
        path: program.path.to_str().unwrap().into(),
    };
    let mut files = Files::new();
    let first = files.look(&mapping).build_id.expect("a build id");
    // The same inode with other content.
    let other = Program::new("other", 50);
    fs::write(&program.path, fs::read(&other.path).unwrap()).unwrap();
    let second = files.look(&mapping).build_id.expect("a build id");
    assert_ne!(first, second);
    assert_eq!(Some(&*second), other.elf().build_id.as_deref());
    // A pipe of that name keeps nobody waiting.
    fs::remove_file(&program.path).unwrap();
    run(Command::new("mkfifo").arg(&program.path));
    assert_eq!(files.look(&mapping).build_id, None);
}

#[test]
fn lines_of_maps() {
    let line = "7f06ab000000-7f06ab021000 r-xp 00028000 fe:01 1835      /usr/lib/a b.so (deleted)";
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
            let _ = elf.bias(offset);
        }
    }
}
