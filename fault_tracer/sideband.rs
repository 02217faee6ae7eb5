// SPDX-License-Identifier: GPL-2.0-only

//! The records beside the faults: what their addresses and thread ids mean.
//!
//! A mapping is emitted before the first fault in it, by each CPU in its own ring. A table for each CPU
//! remembers which were: by process, range, offset, file and rights, all compared, so that a new mapping
//! at the place of an old one is emitted anew. The slot of the table is the number by which the faults
//! refer to it. Tasks are emitted when they begin, execute a program, change their name and end.
//!
//! Everything here runs with preemption disabled, as the ring's producer must.

use core::{
    cell::UnsafeCell,
    mem::size_of_val,
    sync::atomic::{AtomicU32, Ordering},
};
use kernel::{bindings, page::PAGE_SIZE, prelude::*};

use super::{
    arch,
    elf::Described,
    filter::Filter,
    page_cache,
    path::{copy_string, end_with_zeros, is_unlinked, path_of, print_path, slots_up, user_path},
    ring::{Ring, SLOT_WORDS},
    translation,
    uapi::{self, fault_flag, mapping_flag, record_type},
};

/// Room for a path and the zero byte with which `d_path` ends it. Of a longer one, or one for which a small
/// ring has no room, only the last part is emitted, see [`print_last_part`].
const PATH_BYTES: usize = bindings::PATH_MAX as usize;

/// Words of the fixed part of a `MAPPING` or `TASK` record.
const FIXED_WORDS: usize = 2 * SLOT_WORDS;

/// Words that tell more of a file, behind the path.
const FILE_WORDS: usize = 2 * SLOT_WORDS;

/// Words of the longest record.
const RECORD_WORDS: usize = FIXED_WORDS + PATH_BYTES / 8 + FILE_WORDS;

const _: () = assert!(RECORD_WORDS / SLOT_WORDS <= 0xff);

/// Flags of `include/linux/mm.h`, and what they are called in a record.
const FLAGS: [(u64, u32); 7] = [
    (1 << bindings::VMA_READ_BIT, mapping_flag::READ),
    (1 << bindings::VMA_WRITE_BIT, mapping_flag::WRITE),
    (1 << bindings::VMA_EXEC_BIT, mapping_flag::EXEC),
    (VM_MAYSHARE, mapping_flag::SHARED),
    (1 << bindings::VMA_GROWSDOWN_BIT, mapping_flag::GROWSDOWN),
    (1 << bindings::VMA_LOCKED_BIT, mapping_flag::LOCKED),
    (VM_HUGETLB, mapping_flag::HUGETLB),
];

const VM_MAYSHARE: u64 = 1 << bindings::VMA_MAYSHARE_BIT;
const VM_HUGETLB: u64 = 1 << bindings::VMA_HUGETLB_BIT;

/// The `vm_flags` that [`FLAGS`] names.
const FLAGS_TOLD: u64 = {
    let mut all = 0;
    let mut i = 0;
    while i < FLAGS.len() {
        all |= FLAGS[i].0;
        i += 1;
    }
    all
};

/// A mapping as the table remembers it: all that makes it another one. What [`Side::seen`] looks at comes first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    /// Address of the file's name (its dentry).
    name: u64,
    /// Of what the file is called and which inode it is, and [`UNLINKED`].
    content: u64,
    start: u64,
    end: u64,
    offset: u64,
    flags: u64,
    pid: u64,
}

/// By what a fault is known to be in a mapping of the table without comparing all of it.
///
/// Nothing of a mapping but the name of its file can change unless the `mmap_lock` of its memory is taken
/// for writing, and each time that it is, `mm_lock_seq` counts on (`mmap_write_lock`,
/// `include/linux/mmap_lock.h`). While it is held, faults go on in mappings that the writer has not locked,
/// and in them alone, so the count says as much then. An address of memory and of mappings is used again,
/// but `ctx_id` is not. The name of a file changes under `rename_lock`, which counts likewise. That a file is unlinked
/// counts nowhere: its name is looked at each time.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// Address of the mapping; 0 where there is none.
    vma: u64,
    /// `context.ctx_id` of its memory.
    memory: u64,
    /// `mm_lock_seq` of its memory.
    changes: u32,
    /// `rename_lock`.
    renames: u32,
    /// Process id.
    pid: u32,
    /// What a fault's first word has of the mapping and the process: all but the thread id and the flags of
    /// the access.
    pub(crate) header: u64,
    /// What its last word has of the mapping: the low bits of the number.
    pub(crate) ip: u64,
}

impl Seen {
    const NOTHING: Self = Self {
        vma: 0,
        memory: 0,
        changes: 0,
        renames: 0,
        pid: 0,
        header: 0,
        ip: 0,
    };
}

/// How often files were renamed.
#[inline(always)]
fn renames() -> u32 {
    // SAFETY: An aligned word that others may change at any time.
    unsafe { AtomicU32::from_ptr(&raw mut bindings::rename_lock.seqcount.seqcount.sequence) }
        .load(Ordering::Acquire)
}

/// How often mappings of a memory were changed.
///
/// # Safety
///
/// `mm` is alive.
#[inline(always)]
unsafe fn changes(mm: *mut bindings::mm_struct) -> u32 {
    // SAFETY: As above.
    unsafe { AtomicU32::from_ptr(&raw mut (*mm).__bindgen_anon_1.mm_lock_seq.sequence) }
        .load(Ordering::Acquire)
}

/// A slot of the table: a cache line for what [`Side::seen`] looks at, and one for the rest.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Known {
    seen: Seen,
    identity: Identity,
    /// Position of its record in the ring.
    position: u64,
    /// `rename_lock` when its path was looked at last, and what [`path_of`] said then.
    renames: u32,
    /// Whether the session's filter passes it over, so that it was not emitted.
    passed_over: bool,
    path: u64,
}

const _: () = assert!(size_of::<Known>() == 128);

/// What one CPU needs to tell of mappings and tasks.
///
/// Only that CPU uses it, with preemption disabled.
pub(crate) struct Side {
    known: UnsafeCell<VVec<Known>>,
    scratch: UnsafeCell<VVec<u64>>,
}

// SAFETY: Both cells are used by one CPU alone, with preemption disabled, see `Side`.
unsafe impl Sync for Side {}
// SAFETY: Plain memory.
unsafe impl Send for Side {}

impl Side {
    /// Makes one that knows nothing.
    pub(crate) fn new() -> Result<Self> {
        let nothing = Known {
            seen: Seen::NOTHING,
            identity: Identity {
                start: 0,
                end: 0,
                offset: 0,
                name: 0,
                content: 0,
                flags: 0,
                pid: 0,
            },
            position: 0,
            renames: 0,
            passed_over: false,
            path: 0,
        };
        Ok(Self {
            known: UnsafeCell::new(VVec::from_elem(nothing, uapi::MAPPINGS, GFP_KERNEL)?),
            scratch: UnsafeCell::new(VVec::from_elem(0, RECORD_WORDS, GFP_KERNEL)?),
        })
    }

    /// A mapping that was emitted and has not changed since, as far as that is known without comparing all
    /// of it.
    ///
    /// # Safety
    ///
    /// As [`Side::mapping`]; `mm` is the memory of `vma`, and `pid` the process of the running thread.
    #[inline(always)]
    pub(crate) unsafe fn seen(
        &self,
        vma: *const bindings::vm_area_struct,
        mm: *mut bindings::mm_struct,
        pid: u32,
    ) -> Option<&Seen> {
        // SAFETY: The mapping is locked, so its memory is alive and its start does not change. See `Side`:
        // nobody else uses the table now. A slot's number is below its length.
        unsafe {
            let start = (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_start as u64;
            let Known { seen, identity, .. } =
                (*self.known.get()).get_unchecked(slot_of(start, pid));
            (seen.vma == vma as u64
                && seen.pid == pid
                && arch::memory_id(mm) == Some(seen.memory)
                && seen.changes == changes(mm)
                && seen.renames == renames()
                // The same mapping has the same file, which keeps its name.
                && !identity.was_unlinked())
            .then_some(seen)
        }
    }

    /// The number of a mapping in which a thread of process `pid` faults, having emitted it if need be; `None` if the
    /// session's filter passes it over.
    ///
    /// # Safety
    ///
    /// At the entry of `handle_mm_fault` for `vma`, on the CPU that `self` and `ring` belong to, with
    /// preemption disabled. `task` is the running thread, and `time_ns` the time of its fault. If `is_only`,
    /// the next fault in the mapping may ask [`Side::seen`].
    #[inline(always)]
    pub(crate) unsafe fn mapping(
        &self,
        ring: &Ring<'_>,
        vma: *const bindings::vm_area_struct,
        task: *const bindings::task_struct,
        time_ns: u64,
        is_only: bool,
        filter: Option<&Filter>,
    ) -> Option<u16> {
        // Before the mapping is looked at, so that what changes meanwhile is noticed the next time.
        let renames = renames();
        // SAFETY: As this function's.
        let (changes, identity) = unsafe { (changes((*vma).vm_mm), Identity::of(vma, task)) };
        let slot = slot_of(identity.start, identity.pid as u32);
        let number = number_of(slot);
        // SAFETY: See `Side`: nobody else uses it now. `number` is below the table's length.
        let known = unsafe { (*self.known.get()).get_unchecked_mut(number) };
        let mut is_same = known.identity == identity;
        if is_same && known.renames != renames {
            // A folder above the file may have another name.
            // SAFETY: As this function's.
            is_same = known.path == unsafe { path_of(vma) };
            known.renames = renames;
        }
        if !(is_same && (known.passed_over || ring.still_has(known.position))) {
            known.seen = Seen::NOTHING;
            let again = if is_same { mapping_flag::AGAIN } else { 0 };
            // SAFETY: As this function's.
            return unsafe { self.emit_mapping(ring, vma, task, time_ns, again, filter) };
        }
        if known.passed_over {
            return None;
        }
        // SAFETY: As this function's.
        let (vm_flags, of_a_file) = unsafe {
            (
                (*vma).__bindgen_anon_2.vm_flags as u64,
                has_pages_of_a_file(&*vma),
            )
        };
        // SAFETY: The memory of a locked mapping is alive.
        let memory = unsafe { arch::memory_id((*vma).vm_mm) };
        let can_be_plain =
            is_only && slot == number && vm_flags & (VM_HUGETLB | translation::UFFD) == 0;
        if let (true, Some(memory)) = (can_be_plain, memory) {
            let set = |flag, is| if is { flag } else { 0 };
            let flags = set(fault_flag::SHARED, vm_flags & VM_MAYSHARE != 0)
                | set(fault_flag::FILE, of_a_file);
            known.seen = Seen {
                vma: vma as u64,
                memory,
                changes,
                renames,
                pid: identity.pid as u32,
                header: identity.pid << uapi::HEADER_TGID_SHIFT
                    | flags << uapi::HEADER_FLAGS_SHIFT
                    | (number as u64) >> 8 << uapi::HEADER_MAPPING_SHIFT
                    | record_type::FAULT << uapi::HEADER_TYPE_SHIFT,
                ip: (number as u64) << uapi::ADDRESS_BITS,
            };
        }
        Some(number as u16)
    }
}

/// In [`Identity::content`]: the file's name is in its folder no more.
const UNLINKED: u64 = 1 << 63;

impl Identity {
    /// Whether the file has been unlinked since.
    ///
    /// # Safety
    ///
    /// The mapping is still there, and locked: so its file is, which keeps its name.
    #[inline(always)]
    unsafe fn was_unlinked(&self) -> bool {
        let dentry = self.name as *const bindings::dentry;
        // SAFETY: By the contract.
        !dentry.is_null() && unsafe { is_unlinked(dentry) } && self.content & UNLINKED == 0
    }

    /// That of a mapping of the process of `task`.
    ///
    /// # Safety
    ///
    /// As [`Side::mapping`].
    #[inline(always)]
    unsafe fn of(vma: *const bindings::vm_area_struct, task: *const bindings::task_struct) -> Self {
        // SAFETY: The mapping is locked: its range, offset, file and rights do not change, and the file
        // has an inode.
        unsafe {
            let range = &(*vma).__bindgen_anon_1.__bindgen_anon_1;
            let file = (*vma).vm_file;
            let (name, content) = if file.is_null() {
                (0, 0)
            } else {
                // Of two overlays over one file, each has a name of its own.
                let dentry = (*user_path(file)).dentry;
                (
                    dentry as u64,
                    // Not to be told apart by the place of the name alone: a renamed file keeps it, and
                    // memory of a name that is gone is given out again. The hash is salted by the folder.
                    ((*dentry).__bindgen_anon_1.d_name.__bindgen_anon_1.hash_len
                        ^ (*(*file).f_inode).i_ino.rotate_left(32))
                        & !UNLINKED
                        | if is_unlinked(dentry) { UNLINKED } else { 0 },
                )
            };
            Identity {
                start: range.vm_start as u64,
                end: range.vm_end as u64,
                offset: (*vma).vm_pgoff as u64,
                name,
                content,
                flags: (*vma).__bindgen_anon_2.vm_flags as u64 & FLAGS_TOLD,
                // CAST: positive.
                pid: (*task).tgid as u64,
            }
        }
    }
}

impl Side {
    /// Tells of a mapping. [`uapi::MAPPING_UNKNOWN`] if there is no room for it; `None` if the filter passes it over.
    ///
    /// # Safety
    ///
    /// As [`Side::mapping`].
    #[cold]
    #[inline(never)]
    unsafe fn emit_mapping(
        &self,
        ring: &Ring<'_>,
        vma: *const bindings::vm_area_struct,
        task: *const bindings::task_struct,
        time_ns: u64,
        again: u32,
        filter: Option<&Filter>,
    ) -> Option<u16> {
        // SAFETY: As this function's.
        let identity = &unsafe { Identity::of(vma, task) };
        let number = number_of(slot_of(identity.start, identity.pid as u32));
        // SAFETY: See `Side`: nobody else uses them now. The mapping and its file are as `mapping` says;
        // the superblock of an inode in use does not go away.
        let (known, scratch, file) = unsafe {
            (
                &mut *self.known.get(),
                &mut *self.scratch.get(),
                (*vma).vm_file,
            )
        };
        // Before the path is printed, so that what changes meanwhile is noticed the next time.
        let renames = renames();
        // SAFETY: As this function's.
        let path_before = unsafe { path_of(vma) };
        let (mut inode_number, mut device) = (0, 0);
        let mut flags = again;
        let mut about_file = None;
        if !file.is_null() {
            // SAFETY: The dentry of an open file has an inode.
            unsafe {
                let inode = (*(*user_path(file)).dentry).d_inode;
                inode_number = (*inode).i_ino;
                // `MAJOR` and `MINOR` of `include/linux/kdev_t.h`.
                let number = u64::from((*(*inode).i_sb).s_dev);
                device = number >> 20 << 32 | number & 0xf_ffff;
                if identity.flags & 1 << bindings::VMA_EXEC_BIT != 0 {
                    let offset = identity.offset.wrapping_mul(PAGE_SIZE as u64);
                    let said = page_cache::describe(file, offset);
                    flags |= mapping_flag::IDENTITY;
                    if let Some(said) = &said {
                        let bias = said.bias.map_or(0, |_| mapping_flag::BIAS);
                        flags |= mapping_flag::BUILD_ID | bias;
                    }
                    about_file = Some(file_words((*inode).i_generation, said.as_ref()));
                }
            }
            flags |= mapping_flag::FILE;
        }
        for (kernel, record) in FLAGS {
            if identity.flags & kernel != 0 {
                flags |= record;
            }
        }
        let path = room_for_path(ring, scratch);
        // SAFETY: As this function's.
        let path_bytes = unsafe { name(vma, bytes_of(path)) };
        let printed = bytes_of(path).get(..path_bytes).unwrap_or(&[]);
        if filter.is_some_and(|filter| !filter.admits_mapping(printed)) {
            if let Some(slot) = known.get_mut(number) {
                *slot = Known {
                    seen: Seen::NOTHING,
                    identity: *identity,
                    position: 0,
                    renames,
                    passed_over: true,
                    path: path_before,
                };
            }
            return None;
        }
        let mut words = record_words(path_bytes);
        if let Some(about_file) = about_file {
            let behind = scratch.get_mut(words..);
            if let Some(to) = behind.and_then(|words| words.first_chunk_mut::<FILE_WORDS>()) {
                *to = about_file;
                words = words.wrapping_add(FILE_WORDS);
            }
        }
        if let Some(fixed) = scratch.first_chunk_mut::<FIXED_WORDS>() {
            *fixed = [
                // SAFETY: `task` is running.
                unsafe { header(task, record_type::MAPPING, words) },
                time_ns,
                identity.start,
                identity.end,
                identity.offset.wrapping_mul(PAGE_SIZE as u64),
                inode_number,
                device,
                number as u64 | (path_bytes as u64) << 16 | u64::from(flags) << 32,
            ];
        }
        let emitted = scratch
            .get(..words)
            .and_then(|record| ring.push_side(record));
        match (emitted, known.get_mut(number)) {
            (Some(position), Some(slot)) => {
                *slot = Known {
                    // The next fault will fill it in.
                    seen: Seen::NOTHING,
                    identity: *identity,
                    position,
                    renames,
                    passed_over: false,
                    path: path_before,
                };
                Some(number as u16)
            }
            _ => Some(uapi::MAPPING_UNKNOWN),
        }
    }

    /// Tells of a task.
    ///
    /// # Safety
    ///
    /// On the CPU that `self` and `ring` belong to, with preemption disabled. `emitted` is of a live task.
    pub(crate) unsafe fn emit_task(&self, ring: &Ring<'_>, emitted: &TaskRecord) {
        // SAFETY: See `Side`: nobody else uses it now.
        let scratch = unsafe { &mut *self.scratch.get() };
        let mut path_bytes = 0;
        if !emitted.executable.is_null() {
            let path = room_for_path(ring, scratch);
            // SAFETY: The caller holds the file.
            path_bytes = unsafe { print_path(user_path(emitted.executable), bytes_of(path)) };
        }
        let words = record_words(path_bytes);
        let (low, high) = emitted.comm.split_at(8);
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or([0; 8]));
        // SAFETY: `emitted.task` is alive.
        let record = unsafe {
            [
                header(emitted.task, record_type::TASK, words),
                emitted.time_ns,
                // CAST: positive.
                (*(*emitted.task).real_parent).tgid as u64 | u64::from(emitted.event) << 32,
                word(low),
                word(high),
                emitted.counters.0,
                emitted.counters.1,
                path_bytes as u64 | u64::from(emitted.from_id) << 32,
            ]
        };
        if let Some(fixed) = scratch.first_chunk_mut::<FIXED_WORDS>() {
            *fixed = record;
        }
        if let Some(record) = scratch.get(..words) {
            ring.push_reserved(record);
        }
    }
}

/// Whether the pages of a mapping come from its file. `vma_is_anonymous` of `include/linux/mm.h`: a private
/// mapping of `/dev/zero` has a file, and no operations.
#[inline(always)]
pub(crate) fn has_pages_of_a_file(vma: &bindings::vm_area_struct) -> bool {
    !vma.vm_file.is_null() && !vma.vm_ops.is_null()
}

/// What a record of a task says.
pub(crate) struct TaskRecord {
    /// It.
    pub(crate) task: *const bindings::task_struct,
    /// See [`uapi::task_event`].
    pub(crate) event: u32,
    /// When.
    pub(crate) time_ns: u64,
    /// Its minor- and major-fault counters shortly before.
    pub(crate) counters: (u64, u64),
    /// Its name.
    pub(crate) comm: [u8; 16],
    /// See [`uapi::TaskRecord::from_id`].
    pub(crate) from_id: u32,
    /// The file it executes, or null.
    pub(crate) executable: *const bindings::file,
}

/// Tells that a thread has taken its last fault.
///
/// # Safety
///
/// On the CPU that `ring` belongs to, with preemption disabled; `task` is the running thread, or has ended.
pub(crate) unsafe fn emit_exit(ring: &Ring<'_>, task: *const bindings::task_struct, time_ns: u64) {
    // SAFETY: `task` is running or has ended, so nobody else writes its counters.
    let record = unsafe {
        [
            header(task, record_type::EXIT, SLOT_WORDS),
            time_ns,
            (*task).min_flt as u64,
            (*task).maj_flt as u64,
        ]
    };
    ring.push_reserved(&record);
}

/// The slot of the table for a mapping.
#[inline(always)]
fn slot_of(start: u64, pid: u32) -> usize {
    // Address and process id, spread by the golden ratio of 2^64.
    let key = start
        .wrapping_add(pid.into())
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (key >> (64 - uapi::MAPPINGS.trailing_zeros())) as usize
}

/// The number of the mapping in a slot. The last slot, whose number is that of the unknown, stays empty:
/// what belongs there shares the one before it, where [`Side::seen`] does not find it.
#[inline(always)]
fn number_of(slot: usize) -> usize {
    slot.min(uapi::MAPPING_UNKNOWN as usize - 1)
}

/// The first word of a record of so many words about a thread.
///
/// # Safety
///
/// `task` is a live task.
unsafe fn header(task: *const bindings::task_struct, kind: u64, words: usize) -> u64 {
    // SAFETY: Its ids do not change under us: it is running, or new, or held.
    // CAST: positive.
    unsafe {
        (*task).pid as u64
            | ((*task).tgid as u64) << uapi::HEADER_TGID_SHIFT
            | ((words / SLOT_WORDS) as u64) << uapi::HEADER_SLOTS_SHIFT
            | kind << uapi::HEADER_TYPE_SHIFT
    }
}

/// The part of a record's memory that holds a path: as much as always fits in the ring.
fn room_for_path<'a>(ring: &Ring<'_>, record: &'a mut [u64]) -> &'a mut [u64] {
    let words = (ring.longest() / 8).min(RECORD_WORDS as u64) as usize;
    let end = words.saturating_sub(FILE_WORDS);
    record.get_mut(FIXED_WORDS..end).unwrap_or(&mut [])
}

/// The words of a [`uapi::MappedFile`].
fn file_words(generation: u32, said: Option<&Described>) -> [u64; FILE_WORDS] {
    let id = said.map(|said| &said.build_id);
    let length = id.map_or(0, |id| id.length);
    let word = |number: usize| {
        let from = number.wrapping_mul(8);
        let bytes = id.and_then(|id| id.bytes.get(from..from.wrapping_add(8)));
        u64::from_ne_bytes(
            bytes
                .and_then(|bytes| bytes.try_into().ok())
                .unwrap_or([0; 8]),
        )
    };
    [
        u64::from(generation) | (length as u64) << 32,
        word(0),
        word(1),
        word(2),
        word(3),
        said.and_then(|said| said.bias).unwrap_or(0),
        0,
        0,
    ]
}

/// Words of a record with a path: whole slots.
fn record_words(path_bytes: usize) -> usize {
    slots_up(path_bytes) / 8 + FIXED_WORDS
}

/// Memory of words as bytes.
fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: A word is eight bytes, and any bytes are a word. The bytes of a slice can be counted.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

/// Prints what `/proc/PID/maps` calls a mapping (`get_vma_name` of `fs/proc/task_mmu.c`). Returns the
/// length of the name.
///
/// # Safety
///
/// `vma` is locked.
unsafe fn name(vma: *const bindings::vm_area_struct, buffer: &mut [u8]) -> usize {
    // SAFETY: By the contract. A mapping's own `name` method only looks at the mapping.
    let given = unsafe {
        if !(*vma).vm_file.is_null() {
            return print_path(user_path((*vma).vm_file), buffer);
        }
        match (*vma).vm_ops.as_ref().and_then(|ops| ops.name) {
            Some(method) => method(vma.cast_mut()),
            None => core::ptr::null(),
        }
    };
    if !given.is_null() {
        // SAFETY: The method returns a C string that lives as long as the mapping.
        let length = unsafe { copy_string(given.cast(), buffer) };
        return end_with_zeros(buffer, length);
    }
    let name: &[u8] = {
        // SAFETY: A locked mapping's `mm` is alive. Heap and stack move rarely, and a torn look costs a
        // name at worst.
        let (start, end, heap, stack) = unsafe {
            let range = &(*vma).__bindgen_anon_1.__bindgen_anon_1;
            let mm = &(*(*vma).vm_mm).__bindgen_anon_1;
            (
                range.vm_start,
                range.vm_end,
                (mm.start_brk, mm.brk),
                mm.start_stack,
            )
        };
        if start < heap.1 && end > heap.0 {
            b"[heap]"
        } else if start <= stack && end >= stack {
            b"[stack]"
        } else {
            b""
        }
    };
    let length = name.len().min(buffer.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..length), name.get(..length)) {
        to.copy_from_slice(from);
    }
    end_with_zeros(buffer, length)
}
