// SPDX-License-Identifier: GPL-2.0-only

//! What a fault asked the kernel to do, and what became of it.

use fault_tracer_uapi::{fault_flag as flag, mapping_flag};

use crate::Access;

/// What a fault asked the kernel to do: the first of these rules that applies.
///
/// They use what the module sees when the fault enters: the flags of the record, and the mapping where it
/// is known. "Present" is a page table entry that was present before the fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Flag `hugetlb`: the mapping is of hugetlbfs. Nothing more is known of the page.
    Hugetlb,
    /// Flag `swap-entry`, private mapping: the page was swapped out. (Pages under migration and poisoned
    /// ones look the same.)
    SwapIn,
    /// Flag `swap-entry`, shared mapping: the page is being migrated, or is poisoned. Shared memory that
    /// is swapped out does not look like this: its page table entries are empty.
    Migration,
    /// Present, a write (or `unshare`), private mapping: the page is copied, or made writable where
    /// nobody else uses it any more.
    CopyOnWrite,
    /// Present, a write, shared mapping: the kernel is told of the first write to a clean page.
    WriteNotify,
    /// Present, no write: another thread was quicker, or the entry denied the access for the kernel's
    /// own purposes (NUMA balancing).
    Spurious,
    /// Not present, `[vdso]`, `[vvar]` and others that the kernel maps into each process.
    Special,
    /// Not present, a shared mapping without a file of a file system: `MAP_SHARED | MAP_ANONYMOUS`
    /// (`/dev/zero (deleted)`, `[anon_shmem:...]`), `memfd_create` (`/memfd:...`), System V
    /// (`/SYSV...`), POSIX (`/dev/shm/...`).
    SharedMemory,
    /// Not present, a file, instruction fetch.
    FileExecute,
    /// Not present, a file, private mapping, write: the page is read and copied at once.
    FileCopy,
    /// Not present, a file, shared mapping, write.
    FileWrite,
    /// Not present, a file, read.
    FileRead,
    /// Not present, anonymous, write: a page of zeros.
    #[default]
    ZeroFill,
    /// Not present, anonymous, read: the one page of zeros that all share.
    ZeroPage,
}

impl Kind {
    /// All of them, in the order of the rules.
    pub const ALL: [Self; 14] = [
        Self::Hugetlb,
        Self::SwapIn,
        Self::Migration,
        Self::CopyOnWrite,
        Self::WriteNotify,
        Self::Spurious,
        Self::Special,
        Self::SharedMemory,
        Self::FileExecute,
        Self::FileCopy,
        Self::FileWrite,
        Self::FileRead,
        Self::ZeroFill,
        Self::ZeroPage,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hugetlb => "hugetlb",
            Self::SwapIn => "swap-in",
            Self::Migration => "migration",
            Self::CopyOnWrite => "copy-on-write",
            Self::WriteNotify => "write-notify",
            Self::Spurious => "spurious",
            Self::Special => "special",
            Self::SharedMemory => "shared-memory",
            Self::FileExecute => "file-exec",
            Self::FileCopy => "file-copy",
            Self::FileWrite => "file-write",
            Self::FileRead => "file-read",
            Self::ZeroFill => "zero-fill",
            Self::ZeroPage => "zero-page",
        }
    }

    /// The kind of a fault with these flags in a mapping of this name, `None` if that is unknown.
    pub fn of(access: Access, flags: u16, mapping: Option<&str>) -> Self {
        let flags = u64::from(flags);
        let is = |flag| flags & flag != 0;
        let shared = is(flag::SHARED);
        let write = access == Access::Write || is(flag::UNSHARE);
        if is(flag::HUGETLB) {
            return Self::Hugetlb;
        }
        if is(flag::SWAP_ENTRY) {
            return if shared {
                Self::Migration
            } else {
                Self::SwapIn
            };
        }
        if is(flag::PRESENT) {
            return match (write, shared) {
                (true, false) => Self::CopyOnWrite,
                (true, true) => Self::WriteNotify,
                (false, _) => Self::Spurious,
            };
        }
        let name = mapping.unwrap_or("");
        if matches!(
            name,
            "[vdso]" | "[vvar]" | "[vvar_vclock]" | "[vsyscall]" | "[uprobes]"
        ) {
            return Self::Special;
        }
        if shared && (!is(flag::FILE) || is_shared_memory(name)) {
            return Self::SharedMemory;
        }
        match (is(flag::FILE), access) {
            (true, Access::Execute) => Self::FileExecute,
            (true, Access::Write) if shared => Self::FileWrite,
            (true, Access::Write) => Self::FileCopy,
            (true, Access::Read) => Self::FileRead,
            (false, Access::Write) => Self::ZeroFill,
            (false, _) => Self::ZeroPage,
        }
    }
}

/// Whether a mapping of that name is of memory that only looks like a file.
fn is_shared_memory(name: &str) -> bool {
    name == "/dev/zero (deleted)"
        || ["/memfd:", "/SYSV", "/dev/shm/", "[anon_shmem:"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// What became of a fault, as the thread's own counters tell.
///
/// The kernel raises one of a thread's two counters when a fault completes; the thread's next record says
/// how they stand then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It completed, and the minor-fault counter rose.
    Minor,
    /// It completed, and the major-fault counter rose: it had to wait for a page to be read, or to be
    /// tried again.
    Major,
    /// It did not complete, and the thread's next fault goes on with it: same page, and either flag
    /// `tried`, or without the `vma-lock` that this one has. Add those of this fate to nothing: each is
    /// an attempt of the fault that follows.
    Retried,
    /// It did not complete: an error (`SIGSEGV`, `SIGBUS`, out of memory), or a signal came before it
    /// could be tried again.
    Failed,
    /// Nothing tells: the recording ended, or records of the thread are lost behind it.
    #[default]
    Unknown,
}

impl Fate {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 5] = [
        Self::Minor,
        Self::Major,
        Self::Retried,
        Self::Failed,
        Self::Unknown,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// The rights of a mapping as `/proc/PID/maps` writes them.
pub fn permissions(mapping_flags: u32) -> &'static str {
    const NAMES: [&str; 16] = [
        "---p", "r--p", "-w-p", "rw-p", "--xp", "r-xp", "-wxp", "rwxp", "---s", "r--s", "-w-s",
        "rw-s", "--xs", "r-xs", "-wxs", "rwxs",
    ];
    const _: () = assert!(
        mapping_flag::READ == 1
            && mapping_flag::WRITE == 2
            && mapping_flag::EXEC == 4
            && mapping_flag::SHARED == 8
    );
    NAMES[mapping_flags as usize & 15]
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{Execute, Read, Write};

    #[test]
    fn each_kind_by_its_rule() {
        let file = flag::FILE;
        let shared = flag::SHARED;
        let cases = [
            (Write, flag::HUGETLB | shared, Some("/x"), Kind::Hugetlb),
            (Read, flag::SWAP_ENTRY, Some("[heap]"), Kind::SwapIn),
            (Write, flag::SWAP_ENTRY | file, Some("/x"), Kind::SwapIn),
            (
                Read,
                flag::SWAP_ENTRY | shared | file,
                None,
                Kind::Migration,
            ),
            (Write, flag::PRESENT, None, Kind::CopyOnWrite),
            (Write, flag::PRESENT | file, Some("/x"), Kind::CopyOnWrite),
            (
                Read,
                flag::PRESENT | flag::UNSHARE | flag::GUP,
                None,
                Kind::CopyOnWrite,
            ),
            (
                Write,
                flag::PRESENT | shared | file,
                Some("/x"),
                Kind::WriteNotify,
            ),
            (Read, flag::PRESENT, None, Kind::Spurious),
            (Execute, flag::PRESENT | file, None, Kind::Spurious),
            (Read, 0, Some("[vvar]"), Kind::Special),
            (
                Write,
                shared | file,
                Some("/dev/zero (deleted)"),
                Kind::SharedMemory,
            ),
            (
                Read,
                shared | file,
                Some("/memfd:x (deleted)"),
                Kind::SharedMemory,
            ),
            (
                Read,
                shared | file,
                Some("/SYSV00000000 (deleted)"),
                Kind::SharedMemory,
            ),
            (Read, shared | file, Some("/dev/shm/a"), Kind::SharedMemory),
            (Read, shared, None, Kind::SharedMemory),
            (Execute, file, Some("/bin/ls"), Kind::FileExecute),
            (Write, file, Some("/bin/ls"), Kind::FileCopy),
            (Write, file | shared, Some("/tmp/x"), Kind::FileWrite),
            (Read, file, None, Kind::FileRead),
            (Write, flag::USER | flag::VMA_LOCK, None, Kind::ZeroFill),
            (Read, flag::GUP, Some("[heap]"), Kind::ZeroPage),
        ];
        for (access, flags, mapping, kind) in cases {
            assert_eq!(
                Kind::of(access, flags as u16, mapping),
                kind,
                "{access:?} {flags:#x} {mapping:?}"
            );
        }
        for kind in Kind::ALL {
            assert!(
                cases.iter().any(|case| case.3 == kind),
                "{kind:?} has no case"
            );
        }
    }

    #[test]
    fn permissions_are_those_of_maps() {
        use mapping_flag::{EXEC, READ, SHARED, WRITE};
        assert_eq!(permissions(READ | EXEC), "r-xp");
        assert_eq!(
            permissions(READ | WRITE | SHARED | mapping_flag::LOCKED),
            "rw-s"
        );
        assert_eq!(permissions(0), "---p");
    }
}
