// SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note

//! The ABI of `/dev/fault_tracer`: record layouts, ioctl numbers and flags.
//!
//! This file is compiled, unchanged, into the module and into the user-space tools; it uses nothing
//! but `core`. `fault_tracer.h` is the same ABI for C, and `PROTOCOL.md` tells the contract of the
//! rings and the order of the calls.
//!
//! All structures have the same layout for 32-bit and 64-bit callers: 64-bit fields are 8-byte
//! aligned and there is no implicit padding. Fields called `reserved` must be zero.

/// Name of the character device, below `/dev`.
pub const DEVICE_NAME: &str = "fault_tracer";

/// Version of this ABI. It changes only when an existing structure or meaning changes; additions
/// (new ioctls, new record types, new flags) leave it as it is.
///
/// Version 2: the type of a fault record is bit 63 of its first word alone, and the three bits behind it
/// tell the page table entry ([`entry`]); [`fault_flag::SHARED`] and [`mapping_flag::SHARED`] are
/// `MAP_SHARED` also where the descriptor was opened for reading alone; [`fault_flag::FILE`] is not set for
/// a private mapping of `/dev/zero`.
pub const ABI_VERSION: u32 = 2;

/// Unit in which the rings are written, in bytes. Every record occupies a whole number of slots.
pub const SLOT_BYTES: usize = 32;

/// Most sessions that can run at the same time.
pub const MAX_SESSIONS: usize = 16;

/// Bits that a process or thread id needs: `PID_MAX_LIMIT` is 4 Mi on 64-bit kernels
/// (`include/linux/threads.h`).
pub const PID_BITS: u32 = 22;

/// Mask of [`PID_BITS`] bits.
pub const PID_MASK: u64 = (1 << PID_BITS) - 1;

/// Smallest ring, in bytes per CPU: one page of 4 KiB. Rings are whole pages: where the kernel's pages are larger
/// ([`Info::page_bytes`]), the smallest ring is one of them.
pub const RING_BYTES_MIN: u64 = 4096;

/// Largest ring, in bytes per CPU.
pub const RING_BYTES_MAX: u64 = 1 << 30;

// ---------------------------------------------------------------------------------------------
// Records
// ---------------------------------------------------------------------------------------------

/// Record types: bits 60..=63 of a record's first word; of a fault, bit 63 alone is the type. See
/// [`super::header_type`].
pub mod record_type {
    /// Nothing: fills the end of a ring where the next record would not fit in one piece.
    pub const PAD: u64 = 0;
    /// A page fault: [`super::FaultRecord`], one slot. Every type from here on is one: its low three bits
    /// tell the page table entry, see [`super::entry`].
    pub const FAULT: u64 = 8;
    /// A mapping, before the first fault that refers to it: [`super::MappingRecord`] and a path.
    pub const MAPPING: u64 = 2;
    /// A thread begins, changes its name, executes a program or is still there at the end:
    /// [`super::TaskRecord`] and a path.
    pub const TASK: u64 = 3;
    /// A thread has ended: [`super::ExitRecord`].
    pub const EXIT: u64 = 4;
    /// Faults that found the ring full, reported when there was room again, or at the end:
    /// [`super::LostRecord`].
    pub const LOST: u64 = 5;
    /// A fault has ended: [`super::ReturnRecord`], one slot.
    pub const RETURN: u64 = 6;
    /// The user stack of the fault that follows on the same CPU: [`super::StackRecord`] and what is known of it.
    pub const STACK: u64 = 7;
}

/// First bit of the thread group id in a record's first word; the thread id begins at bit 0.
pub const HEADER_TGID_SHIFT: u32 = PID_BITS;
/// First bit of a fault record's flags; 13 bits wide.
pub const HEADER_FLAGS_SHIFT: u32 = 2 * PID_BITS;
/// Mask of a fault record's flags, without those of [`entry`].
pub const FLAGS_MASK: u64 = (1 << 13) - 1;
/// First bit of the page table entry's code ([`entry`]) in a fault record; 3 bits wide.
pub const HEADER_ENTRY_SHIFT: u32 = 60;
/// First bit of the high 3 bits of the mapping's number in a fault record.
pub const HEADER_MAPPING_SHIFT: u32 = HEADER_FLAGS_SHIFT + 13;
/// Numbers of mappings: they begin at 0 and are given again and again, by each CPU for itself.
pub const MAPPINGS: usize = 1 << 11;
/// The number of a mapping that could not be emitted, for want of room, or since the session has no
/// side-band.
pub const MAPPING_UNKNOWN: u16 = MAPPINGS as u16 - 1;
/// First bit of the length in slots of a record that is not a fault; 12 bits wide. Only a [`record_type::STACK`], and a
/// [`record_type::PAD`] before one, can be longer than 255 slots.
pub const HEADER_SLOTS_SHIFT: u32 = 2 * PID_BITS;
/// Most slots of a record.
pub const RECORD_SLOTS_MAX: u64 = (1 << 12) - 1;
/// First bit of the record type.
pub const HEADER_TYPE_SHIFT: u32 = 60;

/// One entry into `handle_mm_fault`.
///
/// `header` holds, from bit 0: thread id (22 bits), process id (thread group id, 22 bits), flags
/// ([`fault_flag`], 13 bits), the high bits of the mapping's number (3 bits), the page table entry
/// ([`entry`], 3 bits), type (1 bit, [`record_type::FAULT`]). Ids are those of the initial pid namespace.
///
/// User addresses use at most 56 bits on x86-64 with five-level paging
/// (`Documentation/arch/x86/x86_64/5level-paging.rst`), so the top bytes of the two addresses are free for
/// the low bits of the thread's fault counters *before* this fault, and for the low bits of the number of
/// the mapping: what the last [`MappingRecord`] of that number *of the same CPU* said.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// Thread id, process id, flags and type.
    pub header: u64,
    /// `CLOCK_MONOTONIC` at the entry of the fault, in nanoseconds.
    pub time_ns: u64,
    /// Bits 0..=55: faulting address. Bits 56..=59: low bits of the thread's minor-fault counter. Bits
    /// 60..=63: low bits of its major-fault counter.
    pub address_counters: u64,
    /// Bits 0..=55: user-space instruction pointer. Bits 56..=63: low bits of the mapping's number.
    pub ip_mapping: u64,
}

/// First bit that is not address in [`FaultRecord::address_counters`] and [`FaultRecord::ip_mapping`].
pub const ADDRESS_BITS: u32 = 56;
/// Mask of the address bits in [`FaultRecord::address_counters`] and [`FaultRecord::ip_mapping`].
pub const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;
/// First bit of the minor-fault counter's low bits in [`FaultRecord::address_counters`].
pub const MIN_FLT_SHIFT: u32 = ADDRESS_BITS;
/// First bit of the major-fault counter's low bits in [`FaultRecord::address_counters`].
pub const MAJ_FLT_SHIFT: u32 = ADDRESS_BITS + 4;
/// Mask of a counter's low bits.
pub const COUNTER_MASK: u64 = 0xf;

/// What precedes the first fault that refers to a mapping, on each CPU.
///
/// Its path follows: `path_bytes` bytes and zeros up to the end of the last slot; and behind it, of code, a
/// [`MappedFile`]. The path is what the
/// process itself would read in `/proc/self/maps`: a file's path (with ` (deleted)` where it is), the
/// kernel's own name of the mapping in brackets (`[heap]`, `[stack]`, `[vdso]`, ...), or nothing for other
/// anonymous memory; names given by `prctl(PR_SET_VMA_ANON_NAME)` are not reported. A path of more than 4095
/// bytes, or one that would take more than about half of a ring below 16 KiB, is emitted as `.../` and the
/// file's name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingRecord {
    /// Thread id and process id as in a fault; length in slots from bit [`HEADER_SLOTS_SHIFT`] on; type.
    pub header: u64,
    /// Time of the fault that it precedes.
    pub time_ns: u64,
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Offset in the file of the first address, in bytes; of anonymous memory what the kernel keeps there.
    pub offset: u64,
    /// Inode number of the file, 0 without one.
    pub inode: u64,
    /// Device of the file: major number in the high, minor in the low 32 bits; 0 without one.
    pub device: u64,
    /// Number by which faults refer to it.
    pub number: u16,
    /// Length of the path in bytes.
    pub path_bytes: u16,
    /// See [`mapping_flag`].
    pub flags: u32,
}

/// Flags of a mapping.
pub mod mapping_flag {
    /// `PROT_READ`.
    pub const READ: u32 = 1 << 0;
    /// `PROT_WRITE`.
    pub const WRITE: u32 = 1 << 1;
    /// `PROT_EXEC`.
    pub const EXEC: u32 = 1 << 2;
    /// `MAP_SHARED` (`VM_MAYSHARE`).
    pub const SHARED: u32 = 1 << 3;
    /// It has a file.
    pub const FILE: u32 = 1 << 4;
    /// It grows down: a stack.
    pub const GROWSDOWN: u32 = 1 << 5;
    /// Of hugetlbfs.
    pub const HUGETLB: u32 = 1 << 6;
    /// Locked in memory (`mlock`).
    pub const LOCKED: u32 = 1 << 7;
    /// A [`MappedFile`](super::MappedFile) follows the path. Set for code (`PROT_EXEC`) of a file.
    pub const IDENTITY: u32 = 1 << 8;
    /// What it says of the build id is known.
    pub const BUILD_ID: u32 = 1 << 9;
    /// Its bias is known.
    pub const BIAS: u32 = 1 << 10;
    /// It is the very mapping that this number meant before on this CPU, told again, since the record of it is
    /// overwritten or was drained ([`session_flag::RETELL`](super::session_flag::RETELL)).
    pub const AGAIN: u32 = 1 << 11;
}

/// Which file a mapping is of. It follows the last slot of the path, where [`mapping_flag::IDENTITY`] says so.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// Generation of the inode, as `FS_IOC_GETVERSION` tells it (`i_generation`): an inode number that is given to
    /// another file has another one. 0 where the file system has none.
    pub generation: u32,
    /// Length of the build id in bytes; 0 where the file has none. Means something with [`mapping_flag::BUILD_ID`]
    /// alone: without it, the file's head was not in memory, or the file is an unusual one.
    pub build_id_bytes: u32,
    /// The build id (the note `NT_GNU_BUILD_ID` of the ELF file), and zeros behind it. A longer one is not reported.
    pub build_id: [u8; 32],
    /// What is to be added (modulo 2^64) to an offset in the file, of the mapped code, to get the address that the
    /// file's symbols use. Means something with [`mapping_flag::BIAS`] alone.
    pub bias: u64,
    /// 0.
    pub reserved: [u64; 2],
}

/// Why a [`TaskRecord`] is written.
pub mod task_event {
    /// The thread was there when its process became a target.
    pub const PRESENT: u32 = 0;
    /// Its parent (or for a thread, a thread of its process) has just made it.
    pub const FORK: u32 = 1;
    /// It has executed a program: `comm` and the path are new.
    pub const EXEC: u32 = 2;
    /// It has a new name.
    pub const RENAME: u32 = 3;
    /// It was still there when the session was stopped.
    pub const ALIVE: u32 = 4;
    /// By the session's rules ([`super::Rule`]) it is traced no more. When it is again, a [`PRESENT`] says so.
    pub const LEFT: u32 = 5;
}

/// A thread and what it is called. For [`task_event::EXEC`] and [`task_event::PRESENT`], the path of its
/// program follows: `path_bytes` bytes and zeros up to the end of the last slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    /// As in [`MappingRecord`]; the ids are those of the thread reported.
    pub header: u64,
    /// Time of the event.
    pub time_ns: u64,
    /// Process id of the parent.
    pub parent: u32,
    /// See [`task_event`].
    pub event: u32,
    /// Name of the thread, ended by a zero byte.
    pub comm: [u8; 16],
    /// Its minor-fault counter.
    pub min_flt: u64,
    /// Its major-fault counter.
    pub maj_flt: u64,
    /// Length of the path in bytes.
    pub path_bytes: u32,
    /// For [`task_event::EXEC`], its thread id before: the thread that executes a program becomes the
    /// leader of its process. For [`task_event::FORK`], the process that made it, which `CLONE_PARENT` makes
    /// another than the parent. Otherwise its thread id.
    pub from_id: u32,
}

/// A thread's counters when it has taken its last fault.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// As in [`MappingRecord`]; the ids are those of the thread that has ended.
    pub header: u64,
    /// Time of its end.
    pub time_ns: u64,
    /// Its minor-fault counter.
    pub min_flt: u64,
    /// Its major-fault counter.
    pub maj_flt: u64,
}

/// Faults of this CPU that found the ring full, none having been recorded in between. It precedes the next
/// fault or mapping that fits; where none does, the session's stop brings it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRecord {
    /// Length in slots and type; the ids are 0.
    pub header: u64,
    /// Time of the first that was dropped.
    pub time_ns: u64,
    /// Time of the last that was dropped.
    pub last_ns: u64,
    /// How many.
    pub count: u64,
}

/// The return from `handle_mm_fault` of a fault that was recorded, in a session with
/// [`session_flag::LATENCY`]. It is in the ring of the CPU where the thread was then.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnRecord {
    /// As in [`MappingRecord`]; the ids are those of the thread.
    pub header: u64,
    /// Time of the return, by the session's clock. The fault took `time_ns - entry_ns`.
    pub time_ns: u64,
    /// [`FaultRecord::time_ns`] of the fault: with the thread id, it tells which.
    pub entry_ns: u64,
    /// Bits 0 to 19 ([`RESULT_MASK`]): what the function returned (`vm_fault_t`), see [`fault_result`]. Bits 20 to 31
    /// ([`AROUND_SHIFT`], [`AROUND_MASK`]): how many pages were mapped around the address meanwhile, beside its own, plus 1; 0
    /// where that is not known, and in modules that did not tell it.
    pub result: u32,
    /// The page by which the address is translated when the function returns. Bits 0 to 7: the power of two that is its
    /// size in bytes, as the page tables say (of hugetlbfs: that of its pages); 0 where there is none, or where the
    /// mapping's lock was given back, so that it cannot be looked up. Bits 8 to 15: likewise the size of the piece of
    /// anonymous memory that it belongs to, where that is larger than the page (a folio of several pages). Bits 16 to 31:
    /// the NUMA node of the page's memory, plus 1; 0 where it is not known.
    pub page: u32,
}

/// Mask of what the kernel returned in [`ReturnRecord::result`].
pub const RESULT_MASK: u32 = (1 << AROUND_SHIFT) - 1;
/// First bit of the number of pages around the fault, plus 1, in [`ReturnRecord::result`].
pub const AROUND_SHIFT: u32 = 20;
/// Mask of that number, once it is at bit 0.
pub const AROUND_MASK: u32 = (1 << 12) - 1;

/// The user stack of a fault, in a session with [`session_flag::STACK_FRAMES`] or [`session_flag::STACK_COPY`]. It
/// precedes the record of that fault, which has the same ids and the same time. A fault without one found no room for
/// both in the ring.
///
/// Behind it stand, of frames, `count` return addresses, the caller of the faulting code first; of a copy, one word with
/// the frame pointer (`rbp`), and `count` bytes of the stack, from the stack pointer on. Of a chain, the frame pointer, room
/// for [`STACK_CHAIN_TOP_BYTES`] of which the first `count` are the stack's, and pairs: where a frame lies, and the address
/// to which it returns. A frame has where the next one lies, the last 0 (or it returns to 0). A pair of zeros, or the
/// record's end, ends them. Zeros fill the last slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackRecord {
    /// As in [`MappingRecord`].
    pub header: u64,
    /// Time of the fault.
    pub time_ns: u64,
    /// Return addresses, or bytes of the copy.
    pub count: u32,
    /// See [`stack_flag`].
    pub flags: u32,
    /// The stack pointer in user mode.
    pub sp: u64,
}

/// What a [`StackRecord`] has.
pub mod stack_flag {
    /// A copy of the top of the stack; otherwise return addresses.
    pub const COPY: u32 = 1 << 0;
    /// It reaches the outermost frame: the chain of frame pointers has ended with a zero, or the copy has all up to where
    /// the stack of the first thread began.
    pub const WHOLE: u32 = 1 << 1;
    /// There is more than was asked for.
    pub const CUT: u32 = 1 << 2;
    /// It ends where memory could not be read without waiting, or where a frame pointer leads to none.
    pub const BROKEN: u32 = 1 << 3;
    /// There is nothing: the thread does not run 64-bit code, or has no user mode.
    pub const FOREIGN: u32 = 1 << 4;
    /// The top of the stack, and its frames as the frame pointers lead to them, all of them ([`WHOLE`]).
    pub const CHAIN: u32 = 1 << 5;
}

/// Most return addresses that a session can ask for.
pub const STACK_FRAMES_MAX: u32 = 1024;
/// Most bytes of a stack that a session can ask for.
pub const STACK_BYTES_MAX: u32 = 32 << 10;
/// Bytes of a stack's top beside its chain of frames: functions that call none may do without a frame pointer.
pub const STACK_CHAIN_TOP_BYTES: u32 = 256;

/// Bits of [`ReturnRecord::result`]: those of the kernel's `enum vm_fault_reason`
/// (`include/linux/mm_types.h`). There may be others, of no use outside of the kernel.
pub mod fault_result {
    /// Out of memory.
    pub const OOM: u32 = 1 << 0;
    /// A bad access (`SIGBUS`).
    pub const SIGBUS: u32 = 1 << 1;
    /// It had to wait for a page to be read.
    pub const MAJOR: u32 = 1 << 2;
    /// The page is poisoned.
    pub const HWPOISON: u32 = 1 << 4;
    /// The huge page is poisoned.
    pub const HWPOISON_LARGE: u32 = 1 << 5;
    /// A bad access (`SIGSEGV`).
    pub const SIGSEGV: u32 = 1 << 6;
    /// It is to be tried again, without or with the lock of the address space.
    pub const RETRY: u32 = 1 << 10;
    /// It is done, and that lock was given back.
    pub const COMPLETED: u32 = 1 << 14;
}

/// Flags of a fault record.
pub mod fault_flag {
    /// The access was a write.
    pub const WRITE: u64 = 1 << 0;
    /// The page table held a page when the fault entered (`pte_present()`): a write to a page mapped
    /// read-only (copy-on-write, write notification), another thread was quicker, or what
    /// [`super::entry`] tells.
    pub const PRESENT: u64 = 1 << 1;
    /// The pages come from the mapping's file. A private mapping of `/dev/zero` has a file, but its pages
    /// are anonymous memory.
    pub const FILE: u64 = 1 << 2;
    /// The mapping is shared (`MAP_SHARED`), as `/proc/PID/maps` says it (`VM_MAYSHARE`).
    pub const SHARED: u64 = 1 << 3;
    /// The page table entry held no page, and was not empty: swapped out, or what [`super::entry`] tells.
    pub const SWAP_ENTRY: u64 = 1 << 4;
    /// A further attempt of a fault that already had to wait (`FAULT_FLAG_TRIED`).
    pub const TRIED: u64 = 1 << 5;
    /// The access came from user mode; without it, from the kernel on behalf of the thread.
    pub const USER: u64 = 1 << 6;
    /// The address belongs to another process (`ptrace`, `process_vm_writev`, `execve`'s arguments).
    pub const REMOTE: u64 = 1 << 7;
    /// The access was an instruction fetch.
    pub const INSTRUCTION: u64 = 1 << 8;
    /// No access trapped: the kernel asked for the page (`get_user_pages`).
    pub const GUP: u64 = 1 << 9;
    /// `get_user_pages` asked to break copy-on-write for reading (`FAULT_FLAG_UNSHARE`).
    pub const UNSHARE: u64 = 1 << 10;
    /// The mapping is of huge pages (hugetlbfs); [`PRESENT`] and [`SWAP_ENTRY`] are not looked up.
    pub const HUGETLB: u64 = 1 << 11;
    /// Taken under the mapping's own lock instead of `mmap_lock`.
    pub const VMA_LOCK: u64 = 1 << 12;

    /// The names of the flags in the order of their bits, as the tools write them. An access is
    /// printed apart (`r`, `w`, `x`), so [`WRITE`] and [`INSTRUCTION`] are not listed.
    pub const NAMES: [(u64, &str); 11] = [
        (PRESENT, "present"),
        (FILE, "file"),
        (SHARED, "shared"),
        (SWAP_ENTRY, "swap-entry"),
        (TRIED, "tried"),
        (USER, "user"),
        (REMOTE, "remote"),
        (GUP, "gup"),
        (UNSHARE, "unshare"),
        (HUGETLB, "hugetlb"),
        (VMA_LOCK, "vma-lock"),
    ];

    /// The names of these flags, as the tools write them: those of [`NAMES`], then that of [`super::entry`].
    pub fn names(flags: u64) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .filter(move |(flag, _)| flags & flag != 0)
            .map(|(_, name)| *name)
            .chain(super::entry::name(flags))
    }
}

/// What the page table entry was when the fault entered: a number in bits 13..=15 of a fault's flags, beside
/// [`fault_flag::PRESENT`] and [`fault_flag::SWAP_ENTRY`], which say what the number means. It is not looked
/// up in hugetlbfs.
pub mod entry {
    use super::fault_flag::{PRESENT, SWAP_ENTRY};

    /// First bit of the number in the flags.
    pub const SHIFT: u32 = 13;
    /// Its bits.
    pub const MASK: u64 = 7 << SHIFT;

    /// `PRESENT`: the kernel took the access away for a moment, to see who uses the page (NUMA balancing).
    pub const NUMA_HINT: u64 = 1 << SHIFT;
    /// `PRESENT`: the mapping is `PROT_NONE`, and the access is not the owner's (`ptrace`, `/proc/PID/mem`).
    pub const PROTECTED: u64 = 2 << SHIFT;
    /// `PRESENT`: userfaultfd wants to know of every access (`UFFDIO_REGISTER_MODE_RWP`).
    pub const UFFD_RWP: u64 = 3 << SHIFT;
    /// `PRESENT`: write-protected through userfaultfd. `SWAP_ENTRY`: a mark that the page, when it comes,
    /// is to be so.
    pub const UFFD_WP: u64 = 5 << SHIFT;

    /// `SWAP_ENTRY`: the page is being moved.
    pub const MIGRATION: u64 = 1 << SHIFT;
    /// `SWAP_ENTRY`: the page's memory is broken.
    pub const HWPOISON: u64 = 2 << SHIFT;
    /// `SWAP_ENTRY`: the page is in a device's memory, which the CPU cannot access.
    pub const DEVICE_PRIVATE: u64 = 3 << SHIFT;
    /// `SWAP_ENTRY`: a device has the page for itself.
    pub const DEVICE_EXCLUSIVE: u64 = 4 << SHIFT;
    /// `SWAP_ENTRY`: a mark that the content is lost (`UFFDIO_POISON`, or broken memory that was moved).
    pub const POISONED: u64 = 6 << SHIFT;
    /// `SWAP_ENTRY`: a guard page (`MADV_GUARD_INSTALL`).
    pub const GUARD: u64 = 7 << SHIFT;

    /// Empty: the mapping is registered with userfaultfd for missing pages.
    pub const UFFD_MISSING: u64 = 1 << SHIFT;
    /// Empty: the mapping is registered with userfaultfd for minor faults, and not for missing pages.
    pub const UFFD_MINOR: u64 = 2 << SHIFT;
    /// Empty, while another CPU was changing the page table: whether there was memory is not known.
    pub const CHANGING: u64 = 3 << SHIFT;

    /// [`PRESENT`], [`SWAP_ENTRY`] or neither, the number, and its name as the tools write it.
    pub const NAMES: [(u64, u64, &str); 14] = [
        (PRESENT, NUMA_HINT, "numa-hint"),
        (PRESENT, PROTECTED, "protected"),
        (PRESENT, UFFD_RWP, "uffd-rwp"),
        (PRESENT, UFFD_WP, "uffd-wp"),
        (SWAP_ENTRY, MIGRATION, "migration"),
        (SWAP_ENTRY, HWPOISON, "hwpoison"),
        (SWAP_ENTRY, DEVICE_PRIVATE, "device-private"),
        (SWAP_ENTRY, DEVICE_EXCLUSIVE, "device-exclusive"),
        (SWAP_ENTRY, UFFD_WP, "uffd-wp"),
        (SWAP_ENTRY, POISONED, "poisoned"),
        (SWAP_ENTRY, GUARD, "guard"),
        (0, UFFD_MISSING, "uffd-missing"),
        (0, UFFD_MINOR, "uffd-minor"),
        (0, CHANGING, "changing"),
    ];

    /// The name of the number in these flags, if it has one there.
    pub fn name(flags: u64) -> Option<&'static str> {
        let found = flags & (PRESENT | SWAP_ENTRY | MASK);
        NAMES
            .iter()
            .find(|(beside, number, _)| beside | number == found)
            .map(|(_, _, name)| *name)
    }
}

impl FaultRecord {
    /// Takes a record apart from its four words, in the order in which they lie in the ring.
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self {
            header: words[0],
            time_ns: words[1],
            address_counters: words[2],
            ip_mapping: words[3],
        }
    }

    /// Thread id in the initial pid namespace.
    pub const fn tid(&self) -> u32 {
        (self.header & PID_MASK) as u32
    }

    /// Process id (thread group id) in the initial pid namespace.
    pub const fn pid(&self) -> u32 {
        ((self.header >> HEADER_TGID_SHIFT) & PID_MASK) as u32
    }

    /// The flags, see [`fault_flag`] and [`entry`].
    pub const fn flags(&self) -> u64 {
        flags_of_header(self.header)
    }

    /// The faulting address.
    pub const fn address(&self) -> u64 {
        self.address_counters & ADDRESS_MASK
    }

    /// The user-space instruction pointer: of the access itself, or of the system call during which
    /// the kernel made it.
    pub const fn ip(&self) -> u64 {
        self.ip_mapping & ADDRESS_MASK
    }

    /// Low 4 bits of the thread's minor-fault counter before this fault.
    pub const fn min_flt_low(&self) -> u8 {
        ((self.address_counters >> MIN_FLT_SHIFT) & COUNTER_MASK) as u8
    }

    /// Low 4 bits of the thread's major-fault counter before this fault.
    pub const fn maj_flt_low(&self) -> u8 {
        ((self.address_counters >> MAJ_FLT_SHIFT) & COUNTER_MASK) as u8
    }

    /// Number of the mapping, below [`MAPPINGS`].
    pub const fn mapping(&self) -> u16 {
        ((self.ip_mapping >> ADDRESS_BITS) | ((self.header >> HEADER_MAPPING_SHIFT) & 7) << 8)
            as u16
    }
}

/// The type of the record that begins with this word, see [`record_type`].
pub const fn header_type(header: u64) -> u64 {
    let bits = header >> HEADER_TYPE_SHIFT;
    if bits >= record_type::FAULT {
        record_type::FAULT
    } else {
        bits
    }
}

/// The flags of the fault whose record begins with this word, see [`fault_flag`] and [`entry`].
pub const fn flags_of_header(header: u64) -> u64 {
    (header >> HEADER_FLAGS_SHIFT) & FLAGS_MASK
        | (header >> HEADER_ENTRY_SHIFT << entry::SHIFT) & entry::MASK
}

/// What the flags of a fault, see [`FaultRecord::flags`], are in its first word.
pub const fn header_flags(flags: u64) -> u64 {
    (flags & FLAGS_MASK) << HEADER_FLAGS_SHIFT
        | (flags & entry::MASK) >> entry::SHIFT << HEADER_ENTRY_SHIFT
}

/// How many slots the record that begins with this word occupies; 0 only in a damaged record.
pub const fn header_slots(header: u64) -> u64 {
    if header_type(header) == record_type::FAULT {
        1
    } else {
        (header >> HEADER_SLOTS_SHIFT) & RECORD_SLOTS_MAX
    }
}

// ---------------------------------------------------------------------------------------------
// Sessions
// ---------------------------------------------------------------------------------------------

/// What a session is doing.
pub mod state {
    /// Being set up: it holds no memory and records nothing.
    pub const IDLE: u32 = 0;
    /// Recording.
    pub const RUNNING: u32 = 1;
    /// Ended: what it recorded can still be drained.
    pub const STOPPED: u32 = 2;
}

/// What happens to a fault that finds its ring full.
pub mod mode {
    /// The new record is dropped and counted.
    pub const DISCARD: u32 = 0;
    /// The oldest records are overwritten: the newest are kept.
    pub const OVERWRITE: u32 = 1;
}

/// Flags of a session.
pub mod session_flag {
    /// Children that a target forks from now on become targets too.
    pub const FOLLOW: u32 = 1 << 0;
    /// Every fault is also printed to the kernel log. Only the session of the module parameters can
    /// have it.
    pub const LOG: u32 = 1 << 1;
    /// The session was started by the module parameter `pid`.
    pub const BOOT: u32 = 1 << 2;
    /// Mappings, tasks, exits and losses are recorded beside the faults.
    pub const SIDEBAND: u32 = 1 << 3;
    /// Every process of the machine is a target, those to come included; but for kernel threads, and for
    /// the process that calls `FT_IOC_START`: its own faults while it writes what it has read would be
    /// recorded, read and written again. Needs a caller in the initial pid namespace.
    pub const ALL: u32 = 1 << 4;
    /// The returns of the faults are recorded too, see [`super::ReturnRecord`].
    pub const LATENCY: u32 = 1 << 5;
    /// The faults are seen by an ftrace hook instead of a kprobe, which costs each fault less. `FT_IOC_START` fails
    /// with `EOPNOTSUPP` where the kernel cannot do so, or not with [`LATENCY`].
    pub const FTRACE: u32 = 1 << 6;
    /// The user stacks of the faults are recorded too, see [`super::StackRecord`]: the return addresses to which the frame
    /// pointers lead, at most [`super::Config::stack`] of them.
    pub const STACK_FRAMES: u32 = 1 << 7;
    /// The user stacks too: a copy of the top of each, of at most [`super::Config::stack`] bytes. With [`STACK_FRAMES`],
    /// a chain of frames ([`super::stack_flag::CHAIN`]) of those stacks whose frame pointers lead to the outermost
    /// frame, if it takes no more room than the copy, and a copy of the others.
    pub const STACK_COPY: u32 = 1 << 8;
    /// What is drained stands for itself: a mapping whose record was drained is emitted anew before the next fault in it.
    pub const RETELL: u32 = 1 << 9;
}

/// `FT_IOC_INFO`: what the module can do and what this file's session is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// [`ABI_VERSION`] of the module.
    pub abi_version: u32,
    /// Size of a fault record in bytes.
    pub fault_record_bytes: u32,
    /// Alignment of every record and unit of its length, in bytes.
    pub slot_bytes: u32,
    /// Rings of a session: one for each possible CPU id, `0..cpus`.
    pub cpus: u32,
    /// See [`state`].
    pub state: u32,
    /// See [`mode`].
    pub mode: u32,
    /// See [`session_flag`].
    pub flags: u32,
    /// Target processes that have not ended.
    pub live_targets: u32,
    /// Size of each CPU's ring, in bytes.
    pub ring_bytes: u64,
    /// Faults that the kprobe could not handle since the session started (`nmissed`). The kernel
    /// keeps one such count for the probe, not one for each CPU or process.
    pub missed: u64,
    /// Where CPU `n`'s ring begins in the file's mapping: `n * ring_stride`.
    pub ring_stride: u64,
    /// Offset of the producer's page within a ring.
    pub producer_offset: u32,
    /// Offset of the consumer's page within a ring.
    pub consumer_offset: u32,
    /// Offset of the records within a ring.
    pub data_offset: u32,
    /// Most sessions that can run at the same time.
    pub max_sessions: u32,
    /// Faults recorded whose return could not be, since all instances of the return hook were in use or
    /// the ring was full ([`session_flag::LATENCY`]).
    pub missed_returns: u64,
    /// How often the module has found, since the session started, that the probe does not hear: that
    /// kprobes, or ftrace, were switched off. While it does not, faults happen that nobody counts.
    pub deaf: u64,
    /// When the probe was last found to hear before the first time that it was not; `CLOCK_MONOTONIC`.
    pub heard_ns: u64,
    /// Size of the kernel's pages, in bytes: a power of two, 4096 or more. 0 from a module that does not tell it: 4096.
    pub page_bytes: u32,
    /// Zero.
    pub reserved: u32,
}

/// `FT_IOC_CONFIGURE`: how an idle session shall record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Bytes of each CPU's ring: a power of two between [`RING_BYTES_MIN`], or a page where that is larger, and
    /// [`RING_BYTES_MAX`].
    pub ring_bytes: u64,
    /// See [`mode`].
    pub mode: u32,
    /// [`session_flag::FOLLOW`], [`session_flag::SIDEBAND`], [`session_flag::ALL`],
    /// [`session_flag::LATENCY`], [`session_flag::FTRACE`], [`session_flag::STACK_FRAMES`],
    /// [`session_flag::STACK_COPY`], [`session_flag::RETELL`] or 0.
    pub flags: u32,
    /// Wake a reader that waits in `poll` when a ring holds that many bytes, at most `ring_bytes`; 0 for a
    /// quarter of it.
    pub watermark_bytes: u64,
    /// See [`clock`].
    pub clock: u32,
    /// With [`session_flag::STACK_FRAMES`] alone, most return addresses, 1 to [`STACK_FRAMES_MAX`]; with
    /// [`session_flag::STACK_COPY`], most bytes, a multiple of 8 up to [`STACK_BYTES_MAX`]. A ring must hold at least
    /// four such records. Otherwise 0.
    pub stack: u32,
}

/// The clock of a session's records.
pub mod clock {
    /// `CLOCK_MONOTONIC`.
    pub const MONOTONIC: u32 = 0;
    /// `CLOCK_BOOTTIME`: goes on while the machine is suspended.
    pub const BOOTTIME: u32 = 1;
    /// `CLOCK_MONOTONIC_RAW`: not adjusted by NTP.
    pub const RAW: u32 = 2;
}

/// `FT_IOC_TARGET_ADD`, `FT_IOC_TARGET_REMOVE`: a process to trace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Process id in the caller's pid namespace. The id of any of its threads names the process.
    pub pid: i32,
    /// [`target_flag::ON_EXEC`] or 0; 0 to remove one.
    pub flags: u32,
}

/// Flags of a [`Target`].
pub mod target_flag {
    /// It becomes a target when it executes a program, and not before: as perf's `enable_on_exec`.
    pub const ON_EXEC: u32 = 1 << 0;
}

/// `FT_IOC_RULE_ADD`: whom an idle session traces, by what they are. A process is a target while a rule without
/// [`rule_flag::EXCEPT`] holds for it (or the session has [`session_flag::ALL`]) and none with it does: rules are looked
/// at when the session starts, and whenever a process is made, executes a program, or changes its name, user or control
/// group. A process is what its first thread is. Neither kernel threads nor the process that calls `FT_IOC_START` are
/// targets. A session that has rules names no [`Target`]. Needs a caller in the initial pid namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// See [`rule_kind`].
    pub kind: u32,
    /// [`rule_flag::EXCEPT`] or 0.
    pub flags: u32,
    /// What is compared, by the kind; otherwise 0.
    pub value: u64,
    /// Of [`rule_kind::NAME`], the name, ended by a zero byte; otherwise 0.
    pub name: [u8; 16],
}

/// What a [`Rule`] compares.
pub mod rule_kind {
    /// Nothing: no rule has it.
    pub const NONE: u32 = 0;
    /// The process id: `value` is one in the caller's pid namespace.
    pub const PROCESS: u32 = 1;
    /// The effective user id: `value` is one in the caller's user namespace.
    pub const USER: u32 = 2;
    /// The control group, or one above it, in the unified hierarchy (cgroup v2): `value` is its number, which is the inode
    /// number of its folder.
    pub const CGROUP: u32 = 3;
    /// The file that is executed: `value` is a descriptor of it, open for reading. Not beside [`CGROUP`].
    pub const EXECUTABLE: u32 = 4;
    /// What the process is called (`/proc/PID/comm`): `name`.
    pub const NAME: u32 = 5;
}

/// Flags of a [`Rule`].
pub mod rule_flag {
    /// Those for which the rule holds are no targets.
    pub const EXCEPT: u32 = 1 << 0;
}

/// Most rules of a session.
pub const RULES_MAX: usize = 64;

/// `FT_IOC_FILTER`: which faults of its targets an idle session records. What it passes over is counted
/// ([`CpuCounters::passed_over`]) and nothing else is done for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// A fault is recorded if one of these holds for its flags; all are, if there is none. They end before the first whose
    /// mask is 0.
    pub tests: [FlagTest; FILTER_TESTS],
    /// And if its address is in one of these; or anywhere, if there is none. They end before the first whose `end` is 0.
    pub ranges: [AddressRange; FILTER_TESTS],
    /// And then each so manyth of them on each CPU; 0 and 1 for all.
    pub every: u32,
    /// Zero.
    pub reserved: u32,
}

/// Most tests of flags, and most ranges, of a [`Filter`].
pub const FILTER_TESTS: usize = 8;

/// Holds for a fault if its flags ([`FaultRecord::flags`]) have this value under the mask.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlagTest {
    /// Bits of [`fault_flag`] and [`entry`].
    pub mask: u64,
    /// No other bits than the mask's.
    pub value: u64,
}

/// Addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressRange {
    /// The first.
    pub start: u64,
    /// The one behind the last.
    pub end: u64,
}

/// `FT_IOC_FILTER_MAPPING`: an idle session records faults in mappings of this name alone, or of one of those that were
/// added before. Needs [`session_flag::SIDEBAND`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterMapping {
    /// The path as [`MappingRecord`] tells it, or without a slash its last part; ended by a zero byte. ` (deleted)` behind a
    /// path does not matter. Nothing stands for memory without a name.
    pub name: [u8; 256],
}

/// Most [`FilterMapping`]s of a session.
pub const FILTER_MAPPINGS: usize = 16;

/// `FT_IOC_CLOCK`: a clock of the records as the kernel itself reads it, whatever the caller's time namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// In: which, see [`clock`].
    pub clock: u32,
    /// Zero.
    pub reserved: u32,
    /// Out: its time, in nanoseconds.
    pub time_ns: u64,
    /// Out: what is to be added to it to get nanoseconds since 1970, as of now.
    pub wall_offset_ns: i64,
    /// Out: that is known to so many nanoseconds, either way.
    pub wall_error_ns: u64,
}

/// `FT_IOC_DRAIN`: take the oldest records of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// In: user address of the buffer, a multiple of 8.
    pub buffer: u64,
    /// In: length of the buffer in bytes, at least [`SLOT_BYTES`].
    pub length: u32,
    /// In: the CPU whose ring is drained.
    pub cpu: u32,
    /// Out: bytes written to the buffer: whole records. 0 when the ring is empty.
    pub bytes: u32,
    /// Out: slots of records that were overwritten between the record drained last from this ring and the
    /// first in the buffer; `u32::MAX` for that many and more. In mode [`mode::DISCARD`] 0.
    pub gap_slots: u32,
}

/// `FT_IOC_CPU_COUNTERS`: the account of one CPU's ring, in faults.
///
/// `hits = recorded + dropped + overwritten`, exactly when the session is stopped. While it runs, a
/// fault being recorded at this moment may be counted in `hits` alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuCounters {
    /// In: the CPU.
    pub cpu: u32,
    /// Zero.
    pub reserved0: u32,
    /// Faults of targets that the probe saw, but for those that a [`Filter`] passed over.
    pub hits: u64,
    /// Faults drained or still in the ring.
    pub recorded: u64,
    /// Faults that found the ring full, in mode [`mode::DISCARD`].
    pub dropped: u64,
    /// Faults overwritten before they were drained, in mode [`mode::OVERWRITE`].
    pub overwritten: u64,
    /// Faults in the ring that are not yet drained.
    pub pending: u64,
    /// `TASK` and `EXIT` records that found even their reserve of the ring full.
    pub sideband_dropped: u64,
    /// Faults of targets that the probe saw, and that a [`Filter`] passed over.
    pub passed_over: u64,
}

/// `FT_IOC_SESSION`: what one of the running sessions of the module is doing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// In: which one, `0..Info::max_sessions`.
    pub index: u32,
    /// Out: 1 if there is such a session; otherwise the rest is zero. Those of other users are for `CAP_SYS_ADMIN` alone.
    pub present: u32,
    /// See [`mode`].
    pub mode: u32,
    /// See [`session_flag`].
    pub flags: u32,
    /// Process that started it, by its id in the reader's pid namespace; 0 if it is not in it.
    pub owner_pid: i32,
    /// Target processes that have not ended.
    pub live_targets: u32,
    /// Processes that were named as targets (not those followed).
    pub named_targets: u32,
    /// The process named first, likewise.
    pub first_target: i32,
    /// Name of the process that started it, ended by a zero byte.
    pub owner_comm: [u8; 16],
    /// Size of each CPU's ring, in bytes.
    pub ring_bytes: u64,
    /// Sum over the CPUs, see [`CpuCounters`].
    pub hits: u64,
    /// Sum over the CPUs, see [`CpuCounters`].
    pub recorded: u64,
    /// Sum over the CPUs, see [`CpuCounters`].
    pub dropped: u64,
    /// Sum over the CPUs, see [`CpuCounters`].
    pub overwritten: u64,
    /// See [`Info::missed`].
    pub missed: u64,
    /// Nanoseconds for which it has been running.
    pub running_ns: u64,
    /// See [`Info::missed_returns`].
    pub missed_returns: u64,
    /// How many [`Rule`]s it has.
    pub rules: u64,
    /// Sum over the CPUs, see [`CpuCounters`].
    pub passed_over: u64,
}

// ---------------------------------------------------------------------------------------------
// ioctls
// ---------------------------------------------------------------------------------------------

/// The ioctl type ("magic") of the device.
pub const IOC_TYPE: u32 = 0xF7;

const IOC_NONE: u32 = 0;
const IOC_WRITE: u32 = 1;
const IOC_READ: u32 = 2;

/// `_IOC` of `include/uapi/asm-generic/ioctl.h`.
const fn ioc<T>(direction: u32, number: u32) -> u32 {
    direction << 30 | (core::mem::size_of::<T>() as u32) << 16 | IOC_TYPE << 8 | number
}

/// Reads an [`Info`].
pub const FT_IOC_INFO: u32 = ioc::<Info>(IOC_READ, 0);
/// Sets up an idle session by a [`Config`].
pub const FT_IOC_CONFIGURE: u32 = ioc::<Config>(IOC_WRITE, 1);
/// Adds a [`Target`]. In an idle session it is only noted, and traced from `FT_IOC_START` on.
pub const FT_IOC_TARGET_ADD: u32 = ioc::<Target>(IOC_WRITE, 2);
/// Removes a [`Target`]; children that were followed stay.
pub const FT_IOC_TARGET_REMOVE: u32 = ioc::<Target>(IOC_WRITE, 3);
/// Starts recording.
pub const FT_IOC_START: u32 = ioc::<()>(IOC_NONE, 4);
/// Stops recording; from then on the counters are final.
pub const FT_IOC_STOP: u32 = ioc::<()>(IOC_NONE, 5);
/// Drains one CPU's ring, see [`Drain`].
pub const FT_IOC_DRAIN: u32 = ioc::<Drain>(IOC_READ | IOC_WRITE, 6);
/// Reads a [`CpuCounters`].
pub const FT_IOC_CPU_COUNTERS: u32 = ioc::<CpuCounters>(IOC_READ | IOC_WRITE, 7);
/// Makes the session of the module parameters this file's session, in place of its own idle one.
/// One file at a time; it goes on when the file is closed.
pub const FT_IOC_ADOPT: u32 = ioc::<()>(IOC_NONE, 8);
/// Reads a [`SessionInfo`].
pub const FT_IOC_SESSION: u32 = ioc::<SessionInfo>(IOC_READ | IOC_WRITE, 9);
/// Reads a [`Time`].
pub const FT_IOC_CLOCK: u32 = ioc::<Time>(IOC_READ | IOC_WRITE, 10);
/// Adds a [`Rule`] to an idle session.
pub const FT_IOC_RULE_ADD: u32 = ioc::<Rule>(IOC_WRITE, 11);
/// Sets the [`Filter`] of an idle session.
pub const FT_IOC_FILTER: u32 = ioc::<Filter>(IOC_WRITE, 12);
/// Adds a [`FilterMapping`] to an idle session.
pub const FT_IOC_FILTER_MAPPING: u32 = ioc::<FilterMapping>(IOC_WRITE, 13);
/// Emits a [`task_event::ALIVE`] for each thread of the targets of a running session, which goes on.
pub const FT_IOC_TELL_ALIVE: u32 = ioc::<()>(IOC_NONE, 14);

const _: () = {
    assert!(core::mem::size_of::<FaultRecord>() == SLOT_BYTES);
    assert!(core::mem::size_of::<Info>() == 104);
    assert!(core::mem::size_of::<Config>() == 32);
    assert!(core::mem::size_of::<Target>() == 8);
    assert!(core::mem::size_of::<Time>() == 32);
    assert!(core::mem::size_of::<Rule>() == 32);
    assert!(core::mem::size_of::<Filter>() == 264);
    assert!(core::mem::size_of::<FilterMapping>() == 256);
    assert!(core::mem::size_of::<Drain>() == 24);
    assert!(core::mem::size_of::<CpuCounters>() == 64);
    assert!(core::mem::size_of::<SessionInfo>() == 128);
    assert!(core::mem::size_of::<MappingRecord>() == 2 * SLOT_BYTES);
    assert!(core::mem::size_of::<MappedFile>() == 2 * SLOT_BYTES);
    assert!(core::mem::size_of::<TaskRecord>() == 2 * SLOT_BYTES);
    assert!(core::mem::size_of::<ExitRecord>() == SLOT_BYTES);
    assert!(core::mem::size_of::<LostRecord>() == SLOT_BYTES);
    assert!(core::mem::size_of::<ReturnRecord>() == SLOT_BYTES);
    assert!(core::mem::size_of::<StackRecord>() == SLOT_BYTES);
    assert!(STACK_BYTES_MAX as u64 / (SLOT_BYTES as u64) < RECORD_SLOTS_MAX - 2);
    assert!(STACK_FRAMES_MAX * 8 < STACK_BYTES_MAX);
    assert!(HEADER_MAPPING_SHIFT + 3 == HEADER_TYPE_SHIFT);
    assert!(1 << entry::SHIFT == FLAGS_MASK + 1);
    assert!(entry::MASK >> entry::SHIFT < record_type::FAULT);
    assert!(MAPPINGS == 1 << (8 + 3));
};
