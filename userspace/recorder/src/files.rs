// SPDX-License-Identifier: GPL-2.0-only

//! The files of mappings, while a trace is recorded.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::OpenOptionsExt as _,
        },
    },
    path::PathBuf,
    sync::Arc,
};

use fault_tracer_client::{MappedFile, Mapping};
use fault_tracer_symbols::{changed_ns, is_file_of, Elf, UnwindTable};
use fault_tracer_trace::{BuildId, PageSize};
use fault_tracer_uapi::names::{escape, unescape};
use rustix::fs::OFlags;

use crate::{
    maps::{is_in_initial_namespace, mapped_code},
    ElfPlace, LookAtFile,
};

/// What `d_path` puts behind the name of a file that has none any more.
const DELETED: &str = " (deleted)";

/// More files than this are not remembered.
const FILES_MOST: usize = 1 << 14;

/// Reads the build ids and segments of files, each once.
///
/// A file that is gone, that another has taken the place of, or that may not be read is none. It is another one if its
/// device, its inode or that inode's generation is another, or its build id is not that which the kernel found.
#[derive(Debug, Default)]
pub struct Files {
    known: HashMap<(u64, u64), Known>,
    /// Whether it is read how stacks are unwound.
    unwinding: bool,
    /// The code of processes that were there when [`Files::remember_running`] was called.
    running: HashMap<u32, Vec<Mapping>>,
    /// That of the kernel's own code, when it was read.
    vdso: Option<Option<Arc<UnwindTable>>>,
}

#[derive(Debug)]
struct Known {
    /// Its last change: the number of a file that is gone is given to another.
    changed_ns: i64,
    /// See [`generation`].
    generation: Option<u32>,
    elf: Arc<Elf>,
    unwind: Option<Arc<UnwindTable>>,
}

/// What a file says of itself and of unwinding, and when it last changed.
type Said = (Arc<Elf>, Option<Arc<UnwindTable>>, i64);

impl Known {
    fn said(&self) -> Said {
        (Arc::clone(&self.elf), self.unwind.clone(), self.changed_ns)
    }

    /// Whether the mapped file may be this one: all that is known of both is the same.
    fn may_be(&self, mapped: Option<&MappedFile>) -> bool {
        let differs = |file: &MappedFile| {
            // The kernel's own is 0 where the file system gives none.
            file.generation != 0 && self.generation.is_some_and(|own| own != file.generation)
        };
        !mapped.is_some_and(differs)
    }
}

impl LookAtFile for Files {
    fn look(&mut self, mapping: &Mapping) -> ElfPlace {
        let Some((elf, unwind, changed_ns)) = self.elf(mapping) else {
            return ElfPlace::default();
        };
        let build_id = elf.build_id.as_deref();
        ElfPlace {
            build_id: build_id.map_or(BuildId::Absent, |digits| BuildId::Of(digits.into())),
            bias: elf.bias(mapping.offset, page_size()),
            changed_ns: Some(changed_ns),
            unwind,
        }
    }

    fn mapped(&mut self, pid: u32) -> Vec<Mapping> {
        // Of a process that has ended meanwhile, nothing is there.
        let now = || mapped_code(pid).unwrap_or_default();
        self.running.remove(&pid).unwrap_or_else(now)
    }

    fn vdso(&mut self) -> Option<Arc<UnwindTable>> {
        if !self.unwinding {
            return None;
        }
        let read = || UnwindTable::of_vdso().ok().flatten().map(Arc::new);
        self.vdso.get_or_insert_with(read).clone()
    }

    fn seen_by(&self, pid: u32, path: &str) -> Option<String> {
        if !is_in_initial_namespace().ok()? {
            return None;
        }
        let root = std::fs::read_link(format!("/proc/{pid}/root")).ok()?;
        below(&escape(root.as_os_str().as_bytes()), path)
    }
}

/// That of this machine, whose files and processes these are.
pub(crate) fn page_size() -> PageSize {
    PageSize::of_bytes(rustix::param::page_size() as u64).unwrap_or_default()
}

/// A path below a root that is not the root of all.
pub(crate) fn below(root: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(root)?;
    (root != "/" && rest.starts_with('/')).then(|| rest.to_owned())
}

impl Files {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Files::new`], for recordings whose stacks are to be unwound.
    pub fn for_unwinding() -> Self {
        Self {
            unwinding: true,
            ..Self::default()
        }
    }

    /// Keeps what all running processes have mapped: one that ends before its first fault is looked at has it no more.
    ///
    /// # Errors
    ///
    /// Those of reading `/proc`.
    pub fn remember_running(&mut self) -> io::Result<()> {
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Of one that ends now, nothing is there.
            let mappings = mapped_code(pid).unwrap_or_default();
            if !mappings.is_empty() {
                self.running.insert(pid, mappings);
            }
        }
        Ok(())
    }

    /// What a mapping's file says of itself, and when it last changed; `None` if it cannot be read.
    fn elf(&mut self, mapping: &Mapping) -> Option<Said> {
        let (file, metadata) = find(mapping)?;
        let key = (mapping.device, mapping.inode);
        let changed_ns = changed_ns(&metadata);
        if let Some(known) = self.known.get(&key) {
            if known.changed_ns == changed_ns {
                return known.may_be(mapping.file.as_ref()).then(|| known.said());
            }
        }
        let opened = reopened(&file)?;
        // What is no ELF file has no build id.
        let elf = Arc::new(Elf::read(&opened).ok()?.unwrap_or_default());
        if self.known.len() >= FILES_MOST {
            self.known.clear();
        }
        let unwind = match self.unwinding {
            true => UnwindTable::read(&opened).ok()?.map(Arc::new),
            false => None,
        };
        let known = Known {
            changed_ns,
            generation: generation(&opened),
            elf,
            unwind,
        };
        let said = known.may_be(mapping.file.as_ref()).then(|| known.said());
        self.known.insert(key, known);
        said
    }
}

/// Finds the file of a mapping, as a mere reference to it.
fn find(mapping: &Mapping) -> Option<(File, Metadata)> {
    let Mapping {
        pid,
        tid,
        start,
        end,
        ..
    } = mapping;
    let mut paths: Vec<(PathBuf, String)> = Vec::new();
    let path = unescape(&mapping.path);
    let has_name = !mapping.path.ends_with(DELETED) && path.starts_with(b"/");
    let path_in = |root: &str| {
        PathBuf::from(std::ffi::OsString::from_vec(
            [root.as_bytes(), &path].concat(),
        ))
    };
    // While the process lives: as it sees the path, whatever its mount namespace and its root are, and the mapped file
    // itself.
    // The process has neither any more when its first thread has ended; another thread has them.
    for task in [pid, tid].into_iter().take(if pid == tid { 1 } else { 2 }) {
        let mounts = format!("/proc/{task}/mountinfo");
        if has_name {
            paths.push((path_in(&format!("/proc/{task}/root")), mounts.clone()));
        }
        let mapped = format!("/proc/{task}/map_files/{start:x}-{end:x}");
        paths.push((mapped.into(), mounts));
    }
    // Afterwards as we see it: in another namespace that is another file, with another device and inode.
    if has_name {
        paths.push((path_in(""), "/proc/self/mountinfo".into()));
    }
    paths.into_iter().find_map(|(path, mounts)| {
        let file = OpenOptions::new()
            .read(true)
            // What stands there now may be a pipe or a device, which are not to be opened.
            .custom_flags(OFlags::PATH.bits() as i32)
            .open(path)
            .ok()?;
        let metadata = file.metadata().ok()?;
        is_file_of(&file, &metadata, (mapping.device, mapping.inode), &mounts)
            .then_some((file, metadata))
    })
}

/// The generation of a file's inode: `FS_IOC_GETVERSION` of `include/uapi/linux/fs.h`, which writes an `int`. `None`
/// where its file system tells none.
pub(crate) fn generation(file: &File) -> Option<u32> {
    const GET: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<std::ffi::c_long>(b'v', 1);
    // SAFETY: The operation takes a pointer to a number and writes 32 bits there.
    unsafe { rustix::ioctl::ioctl(file, rustix::ioctl::Getter::<GET, u32>::new()) }.ok()
}

/// The file of a reference, for reading.
fn reopened(reference: &File) -> Option<File> {
    File::open(format!("/proc/self/fd/{}", reference.as_raw_fd())).ok()
}
