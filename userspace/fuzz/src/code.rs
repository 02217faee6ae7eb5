// SPDX-License-Identifier: GPL-2.0-only

//! What is read of code: the files that it is in, and where processes have mapped them.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Arc,
};

use fault_tracer_recorder::{parse_maps, Files, Resolver};
use fault_tracer_symbols::{changed_ns, Elf, Symbolizer};
use fault_tracer_trace::{export::Symbols as _, BuildId, Code, FileId, Metadata, Name, Object};
use rustix::fs::{major, memfd_create, minor, MemfdFlags};

/// Offsets in a file that are asked for: those of the seeds' symbols, and those where sums overflow.
const OFFSETS: u64 = 1024;
const EXTREMES: [u64; 5] = [1 << 31, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];

/// A file that code ran in.
///
/// # Panics
///
/// If a symbol has no name, and as said above.
pub fn elf_file(bytes: &[u8]) {
    assert!(symbols_in(bytes).iter().all(|name| !name.is_empty()));
}

/// The symbols in a file, in the order of their names. They are looked for by its build id if it has one, and
/// where its segments say as well as where they do not.
pub(crate) fn symbols_in(bytes: &[u8]) -> BTreeSet<Name> {
    let memory: OwnedFd = memfd_create("code", MemfdFlags::CLOEXEC).expect("memory for a file");
    let mut file = File::from(memory);
    file.write_all(bytes).expect("memory can be written");
    let elf = Elf::read(&file).expect("memory can be read");
    let metadata = Metadata {
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        ..Metadata::default()
    };
    let mut symbols = Symbolizer::new(&metadata, &[]);
    let mut found = BTreeSet::new();
    let build_id = elf.and_then(|elf| elf.build_id);
    let metadata_of = file.metadata().expect("memory has metadata");
    let device = metadata_of.dev();
    let id = FileId {
        device: u64::from(major(device)) << 32 | u64::from(minor(device)),
        inode: metadata_of.ino(),
        changed_ns: Some(changed_ns(&metadata_of)),
    };
    for bias in [None, Some(0), Some(1 << 63)] {
        let object = Arc::new(Object {
            name: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            build_id: build_id
                .as_deref()
                .map_or(BuildId::Absent, |digits| BuildId::Of(digits.into())),
            bias,
            file: Some(id),
        });
        for offset in (0..OFFSETS).step_by(4).chain(EXTREMES) {
            let code = Code {
                object: Arc::clone(&object),
                offset,
            };
            found.extend(symbols.symbol(&code, 0).map(|symbol| symbol.name));
        }
    }
    assert!(symbols.notes().iter().all(|note| !note.is_empty()));
    found
}

/// A process's `/proc/PID/maps`, and what becomes of the mappings in it: their files are looked for, too.
///
/// # Panics
///
/// If a mapping is not of code, and as said above.
pub fn process_maps(bytes: &[u8]) {
    let mut resolver = Resolver::looking(Box::new(Files::new()));
    for mapping in parse_maps(std::process::id(), bytes) {
        assert!(mapping.flags & fault_tracer_uapi::mapping_flag::EXEC != 0);
        resolver.add_mapping(&mapping);
    }
    let mut rows = Vec::new();
    resolver.finish(&mut rows);
}
