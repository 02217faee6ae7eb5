// SPDX-License-Identifier: GPL-2.0-only

//! What a fault asked the kernel to do, and what became of it.

use fault_tracer_uapi::{entry, fault_flag as flag, mapping_flag};

use crate::Access;

/// What a fault asked the kernel to do: the first of these rules that applies.
///
/// They use what the module sees when the fault enters: the flags of the record, and the mapping where it
/// is known. "Present" is a page table entry that held a page before the fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Flag `hugetlb`: the mapping is of hugetlbfs. Nothing more is known of the page.
    Hugetlb,
    /// Flag `guard`: a guard page (`MADV_GUARD_INSTALL`), as below stacks. The access fails.
    Guard,
    /// Flag `poisoned` or `hwpoison`: the content is lost. The access fails.
    Poisoned,
    /// Flag `migration`: the page is being moved; the fault waits for the end of that.
    Migration,
    /// Flag `device-private`: the page is in a device's memory and comes back.
    DevicePrivate,
    /// Flag `device-exclusive`: a device has the page for itself and gives it back.
    DeviceExclusive,
    /// Flag `swap-entry` and none of the above: the page was swapped out. Shared memory that is swapped out
    /// does not look like this: its page table entries are empty.
    SwapIn,
    /// Flag `numa-hint`: the page is there; the kernel took the access away to see who uses it.
    NumaHint,
    /// Flag `protected`: the page is there, and the mapping is `PROT_NONE`: the access is a debugger's, or
    /// another's by `/proc/PID/mem`.
    Protected,
    /// Flag `uffd-rwp`: the page is there; userfaultfd wants to know of every access.
    UffdReadWrite,
    /// Flag `uffd-wp` with `swap-entry`, or with `present` and a write: write-protected through userfaultfd.
    UffdWrite,
    /// Present, a write (or `unshare`), private mapping: the page is copied, or made writable where
    /// nobody else uses it any more.
    CopyOnWrite,
    /// Present, a write, shared mapping: the kernel is emitted the first write to a clean page.
    WriteNotify,
    /// Present, no write: another thread was quicker.
    Spurious,
    /// Flag `uffd-missing`: the program that holds the userfaultfd fills the page.
    /// (In shared memory, where the page is there already, the kernel maps it by itself.)
    UffdMissing,
    /// Flag `uffd-minor`: the program that holds the userfaultfd maps the page, which
    /// is there.
    UffdMinor,
    /// Flag `changing`: the page table entry was empty while another CPU was changing the table. Whether there was
    /// a page before is not known.
    Changing,
    /// Not present, `[vdso]`, `[vvar]` and others that the kernel maps into each process.
    Special,
    /// Not present, a shared mapping without a file of a file system: `MAP_SHARED | MAP_ANONYMOUS`
    /// (`/dev/zero (deleted)`, `[anon_shmem:...]`), `memfd_create` (`/memfd:...`), `memfd_secret`
    /// (`/secretmem`), System V (`/SYSV...`), POSIX (`/dev/shm/...`), of drivers (`/dmabuf:...`,
    /// `/drm mm object`, `/i915`), of asynchronous I/O (`/[aio]`), and what only a descriptor names
    /// (`anon_inode:...`).
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
    pub const ALL: [Self; 25] = [
        Self::Hugetlb,
        Self::Guard,
        Self::Poisoned,
        Self::Migration,
        Self::DevicePrivate,
        Self::DeviceExclusive,
        Self::SwapIn,
        Self::NumaHint,
        Self::Protected,
        Self::UffdReadWrite,
        Self::UffdWrite,
        Self::CopyOnWrite,
        Self::WriteNotify,
        Self::Spurious,
        Self::UffdMissing,
        Self::UffdMinor,
        Self::Changing,
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
            Self::Guard => "guard",
            Self::Poisoned => "poisoned",
            Self::Migration => "migration",
            Self::DevicePrivate => "device-private",
            Self::DeviceExclusive => "device-exclusive",
            Self::SwapIn => "swap-in",
            Self::NumaHint => "numa-hint",
            Self::Protected => "protected",
            Self::UffdReadWrite => "uffd-rwp",
            Self::UffdWrite => "uffd-wp",
            Self::UffdMissing => "uffd-missing",
            Self::UffdMinor => "uffd-minor",
            Self::Changing => "changing",
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
        let number = flags & entry::MASK;
        if is(flag::SWAP_ENTRY) {
            return match number {
                entry::GUARD => Self::Guard,
                entry::POISONED | entry::HWPOISON => Self::Poisoned,
                entry::MIGRATION => Self::Migration,
                entry::DEVICE_PRIVATE => Self::DevicePrivate,
                entry::DEVICE_EXCLUSIVE => Self::DeviceExclusive,
                entry::UFFD_WP => Self::UffdWrite,
                _ => Self::SwapIn,
            };
        }
        if is(flag::PRESENT) {
            return match number {
                entry::NUMA_HINT => Self::NumaHint,
                entry::PROTECTED => Self::Protected,
                entry::UFFD_RWP => Self::UffdReadWrite,
                // Asked to break sharing alone, the kernel leaves the protection.
                entry::UFFD_WP if access == Access::Write => Self::UffdWrite,
                _ if !write => Self::Spurious,
                _ if shared => Self::WriteNotify,
                _ => Self::CopyOnWrite,
            };
        }
        match number {
            entry::UFFD_MISSING => return Self::UffdMissing,
            entry::UFFD_MINOR => return Self::UffdMinor,
            entry::CHANGING => return Self::Changing,
            _ => {}
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
        || [
            "/memfd:",
            "/secretmem",
            "/SYSV",
            "/dev/shm/",
            "[anon_shmem:",
            "/dmabuf:",
            "/drm mm object",
            "/i915",
            "/[aio]",
            "anon_inode:",
        ]
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
    /// An attempt that did not complete, and the thread's next one goes on with it: same page, and either
    /// flag `tried`, or without the `vma-lock` that this one has. Only in recordings that keep attempts apart
    /// (`record --attempts`); elsewhere the attempts of a fault are one row.
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
        let (present, swap) = (flag::PRESENT, flag::SWAP_ENTRY);
        let cases = [
            (Write, flag::HUGETLB | shared, Some("/x"), Kind::Hugetlb),
            (Read, flag::SWAP_ENTRY, Some("[heap]"), Kind::SwapIn),
            (Write, flag::SWAP_ENTRY | file, Some("/x"), Kind::SwapIn),
            (Read, flag::SWAP_ENTRY | shared | file, None, Kind::SwapIn),
            (Read, swap | entry::MIGRATION, None, Kind::Migration),
            (
                Write,
                swap | entry::MIGRATION | shared,
                None,
                Kind::Migration,
            ),
            (Read, swap | entry::GUARD, Some("[stack]"), Kind::Guard),
            (Write, swap | entry::POISONED, None, Kind::Poisoned),
            (Write, swap | entry::HWPOISON, None, Kind::Poisoned),
            (
                Read,
                swap | entry::DEVICE_PRIVATE,
                None,
                Kind::DevicePrivate,
            ),
            (
                Read,
                swap | entry::DEVICE_EXCLUSIVE,
                None,
                Kind::DeviceExclusive,
            ),
            (Read, swap | entry::UFFD_WP | shared, None, Kind::UffdWrite),
            (Read, present | entry::NUMA_HINT, None, Kind::NumaHint),
            (
                Write,
                present | entry::NUMA_HINT | shared,
                None,
                Kind::NumaHint,
            ),
            (
                Write,
                present | entry::PROTECTED | flag::GUP | flag::REMOTE,
                None,
                Kind::Protected,
            ),
            (Read, present | entry::UFFD_RWP, None, Kind::UffdReadWrite),
            (Write, present | entry::UFFD_WP, None, Kind::UffdWrite),
            (Read, present | entry::UFFD_WP, None, Kind::Spurious),
            (
                Read,
                present | entry::UFFD_WP | flag::UNSHARE,
                None,
                Kind::CopyOnWrite,
            ),
            (Write, entry::UFFD_MISSING, None, Kind::UffdMissing),
            (
                Read,
                entry::UFFD_MINOR | shared | file,
                Some("/memfd:x"),
                Kind::UffdMinor,
            ),
            (Write, entry::CHANGING, None, Kind::Changing),
            (Read, entry::CHANGING | file, Some("/x"), Kind::Changing),
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
            (
                Write,
                shared | file,
                Some("/secretmem (deleted)"),
                Kind::SharedMemory,
            ),
            (
                Write,
                shared | file,
                Some("/dmabuf:udmabuf"),
                Kind::SharedMemory,
            ),
            (Read, file | shared, Some("/tmp/x"), Kind::FileRead),
            (Write, 0, Some("/dev/zero"), Kind::ZeroFill),
            (Read, 0, Some("/dev/zero"), Kind::ZeroPage),
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
