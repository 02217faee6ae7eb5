// SPDX-License-Identifier: GPL-2.0-only

//! The user stack of a fault: the return addresses to which its frame pointers lead, a copy of its top, or as much of it as
//! an unwinder reads if its functions keep frame pointers.
//!
//! Reading user memory here never waits: what is not in memory ends the stack. The record is written in its place in the
//! ring, and shown with the fault that it belongs to.

use core::sync::atomic::{compiler_fence, AtomicU64, Ordering};
use kernel::{bindings, page::PAGE_SIZE};

use super::{
    arch,
    ring::{Ring, SLOT_WORDS},
    uapi::{self, record_type, session_flag, stack_flag},
};

/// Words of a record before the return addresses, or before the frame pointer and the copy.
const FIXED_WORDS: usize = SLOT_WORDS;

/// Words of the stack's top before a chain.
const CHAIN_TOP_WORDS: usize = uapi::STACK_CHAIN_TOP_BYTES as usize / 8;
/// Most frames of a chain.
const CHAIN_FRAMES_MOST: usize = 127;

/// As many words as the slots have that hold so many.
fn whole_slots(words: usize) -> usize {
    words.wrapping_add(SLOT_WORDS.wrapping_sub(1)) & !SLOT_WORDS.wrapping_sub(1)
}

/// Which stacks a session records.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// At most so many return addresses.
    Frames(u32),
    /// At most so many bytes from the stack pointer on.
    Copy(u32),
    /// The chain of frames where it leads to the outermost one, otherwise as many bytes as of a copy.
    ChainOrCopy(u32),
}

impl Wanted {
    /// Those that a configuration asks for.
    pub(crate) fn of(config: &uapi::Config) -> Option<Self> {
        let asked = |flag| config.flags & flag != 0;
        match (
            asked(session_flag::STACK_FRAMES),
            asked(session_flag::STACK_COPY),
        ) {
            (false, false) => None,
            (true, false) => Some(Self::Frames(config.stack)),
            (false, true) => Some(Self::Copy(config.stack)),
            (true, true) => Some(Self::ChainOrCopy(config.stack)),
        }
    }

    /// Words of the longest record: whole slots.
    pub(crate) fn record_words(&self) -> usize {
        let words = match self {
            Self::Frames(most) => *most as usize,
            Self::Copy(bytes) | Self::ChainOrCopy(bytes) => {
                1usize.wrapping_add(*bytes as usize / 8)
            }
        };
        FIXED_WORDS.wrapping_add(whole_slots(words))
    }
}

/// What was read of a stack.
struct Read {
    /// Words behind the fixed ones.
    words: usize,
    /// See [`uapi::StackRecord::count`].
    count: u32,
    flags: u32,
}

/// Records the stack of a fault that is to be recorded next, if there is room for both.
///
/// # Safety
///
/// To be called at the entry of `handle_mm_fault`, with preemption disabled; `ring` is the running CPU's, and `task` the
/// running thread, whose ids are in `header`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn emit(
    ring: &Ring<'_>,
    wanted: &Wanted,
    task: *const bindings::task_struct,
    header: u64,
    time_ns: u64,
) {
    let Some(space) = ring.begin_side(wanted.record_words()) else {
        return;
    };
    let Some((fixed, rest)) = space.words.split_first_chunk::<FIXED_WORDS>() else {
        return;
    };
    // SAFETY: By this function's contract.
    let stack = unsafe { arch::user_stack(task.cast_mut()) };
    // SAFETY: By this function's contract.
    let disabled = unsafe { PageFaultsDisabled::new(task.cast_mut()) };
    let (sp, read) = match (stack, wanted) {
        (None, _) => {
            let flags = stack_flag::FOREIGN;
            (
                0,
                Read {
                    words: 0,
                    count: 0,
                    flags,
                },
            )
        }
        (Some((sp, frame)), Wanted::Frames(most)) => {
            // The last slot may have room for more.
            let out = rest.get(..*most as usize).unwrap_or(rest);
            (sp, return_addresses(&disabled, sp, frame, out))
        }
        (Some((sp, frame)), Wanted::Copy(most) | Wanted::ChainOrCopy(most)) => {
            // SAFETY: The running thread's memory, if it has any, does not go away.
            let memory = unsafe { (*task).mm.as_ref() };
            let memory = memory.map_or(Memory::default(), |mm| Memory {
                // Where the first thread's stack began when the program was executed; not changed but by prctl.
                bottom: mm.__bindgen_anon_1.start_stack as u64,
                end: mm.__bindgen_anon_1.task_size as u64,
            });
            let found = match wanted {
                Wanted::ChainOrCopy(_) => chain(&disabled, sp, frame, &memory, rest),
                _ => None,
            };
            let read = found.unwrap_or_else(|| top(&disabled, sp, frame, &memory, *most, rest));
            (sp, read)
        }
    };
    drop(disabled);
    let words = whole_slots(read.words);
    for word in rest.get(read.words..words).unwrap_or(&[]) {
        word.store(0, Ordering::Relaxed);
    }
    let words = FIXED_WORDS.wrapping_add(words);
    let ids = uapi::PID_MASK << uapi::HEADER_TGID_SHIFT | uapi::PID_MASK;
    let values = [
        header & ids
            | ((words / SLOT_WORDS) as u64) << uapi::HEADER_SLOTS_SHIFT
            | record_type::STACK << uapi::HEADER_TYPE_SHIFT,
        time_ns,
        u64::from(read.count) | u64::from(read.flags) << 32,
        sp,
    ];
    for (to, value) in fixed.iter().zip(values) {
        to.store(value, Ordering::Relaxed);
    }
    ring.end_side(space, words);
}

/// Page faults of the running thread are not handled while this is there: what would raise one cannot be read.
/// `pagefault_disable` of `include/linux/uaccess.h`.
struct PageFaultsDisabled(*mut bindings::task_struct);

impl PageFaultsDisabled {
    /// # Safety
    ///
    /// `task` is the running thread.
    unsafe fn new(task: *mut bindings::task_struct) -> Self {
        // SAFETY: The thread's own counter.
        unsafe { (*task).pagefault_disabled = (*task).pagefault_disabled.wrapping_add(1) };
        // What is read stays behind it.
        compiler_fence(Ordering::SeqCst);
        Self(task)
    }
}

impl Drop for PageFaultsDisabled {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: As in `new`; it is still the running thread.
        unsafe { (*self.0).pagefault_disabled = (*self.0).pagefault_disabled.wrapping_sub(1) };
    }
}

/// Where the frame pointers of a stack have led so far.
struct Frames {
    /// Where the next frame lies; 0 behind the last.
    frame: u64,
    /// Where it lies at least: each frame lies above the one that it has called.
    above: u64,
}

/// What the next frame of a stack is.
enum Next {
    /// It lies there, and returns to that address: to 0, if nothing has called it.
    Frame(u64, u64),
    /// There is none above the one before.
    None,
    /// The frame pointer led to none.
    Broken,
}

impl Frames {
    fn next(&mut self, _: &PageFaultsDisabled) -> Next {
        let frame = self.frame;
        // The last frame of a stack has none above it.
        if frame == 0 {
            return Next::None;
        }
        let is_frame = frame >= self.above && frame & 7 == 0;
        let pair = is_frame
            .then(|| arch::read_user(frame).zip(arch::read_user(frame.wrapping_add(8))))
            .flatten();
        let Some((next, address)) = pair else {
            return Next::Broken;
        };
        self.above = frame.wrapping_add(16);
        self.frame = next;
        Next::Frame(frame, arch::code_address(address))
    }
}

/// Follows the frame pointers, and puts the return addresses into `out`. Turns at most as many times as it has words.
fn return_addresses(disabled: &PageFaultsDisabled, sp: u64, frame: u64, out: &[AtomicU64]) -> Read {
    let mut frames = Frames { frame, above: sp };
    let mut flags = stack_flag::CUT;
    let mut count = 0_usize;
    for to in out {
        match frames.next(disabled) {
            Next::Frame(_, address @ 1..) => to.store(address, Ordering::Relaxed),
            Next::Frame(_, 0) | Next::None => {
                flags = stack_flag::WHOLE;
                break;
            }
            Next::Broken => {
                flags = stack_flag::BROKEN;
                break;
            }
        }
        count = count.wrapping_add(1);
    }
    if flags == stack_flag::CUT && frames.frame == 0 {
        flags = stack_flag::WHOLE;
    }
    Read {
        words: count,
        count: count as u32,
        flags,
    }
}

/// Follows the frame pointers to the outermost frame, and puts the top of the stack and its frames into `out`; `None` if
/// they do not lead there, or there is no room for all.
fn chain(
    disabled: &PageFaultsDisabled,
    sp: u64,
    frame: u64,
    memory: &Memory,
    out: &[AtomicU64],
) -> Option<Read> {
    let (head, pairs) = out.split_at_checked(1usize.wrapping_add(CHAIN_TOP_WORDS))?;
    let mut frames = Frames { frame, above: sp };
    let mut words = head.len();
    let mut room = pairs.chunks_exact(2).take(CHAIN_FRAMES_MOST);
    // Turns at most as many times as there is room for frames, and once more.
    loop {
        match frames.next(disabled) {
            Next::Frame(place, address) => {
                let [to_place, to_address] = room.next()? else {
                    return None;
                };
                to_place.store(place, Ordering::Relaxed);
                to_address.store(address, Ordering::Relaxed);
                words = words.wrapping_add(2);
                if address == 0 {
                    break;
                }
            }
            Next::None => break,
            Next::Broken => return None,
        }
    }
    let copied = top(
        disabled,
        sp,
        frame,
        memory,
        uapi::STACK_CHAIN_TOP_BYTES,
        head,
    );
    for word in head.get(copied.words..).unwrap_or(&[]) {
        word.store(0, Ordering::Relaxed);
    }
    Some(Read {
        words,
        count: copied.count,
        flags: stack_flag::CHAIN | stack_flag::WHOLE,
    })
}

/// A process's memory.
#[derive(Default)]
struct Memory {
    /// Where the first thread's stack begins.
    bottom: u64,
    /// Where user memory ends.
    end: u64,
}

/// Copies the top of a stack, page by page, at most `most` bytes. What lies above the bottom is no stack any more.
fn top(
    _: &PageFaultsDisabled,
    sp: u64,
    frame: u64,
    memory: &Memory,
    most: u32,
    out: &[AtomicU64],
) -> Read {
    let nothing = Read {
        words: 0,
        count: 0,
        flags: stack_flag::COPY | stack_flag::BROKEN,
    };
    let Some((first, out)) = out.split_first() else {
        return nothing;
    };
    first.store(frame, Ordering::Relaxed);
    let most = most as usize;
    let mut flags = stack_flag::COPY | stack_flag::CUT;
    let mut wanted = most & !7;
    // One word more: the outermost frame returns to none, and what is read there says so.
    let used = memory.bottom.wrapping_sub(sp).wrapping_add(8) as usize;
    if sp & 7 == 0 && memory.bottom >= sp && used <= most {
        flags = stack_flag::COPY | stack_flag::WHOLE;
        wanted = used & !7;
    }
    let mut copied = 0;
    while copied < wanted {
        let from = sp.wrapping_add(copied as u64);
        let left_of_page = PAGE_SIZE.wrapping_sub(from as usize & PAGE_SIZE.wrapping_sub(1));
        let bytes = left_of_page.min(wanted.wrapping_sub(copied));
        let is_user = memory.end.checked_sub(bytes as u64) >= Some(from);
        let to = out.get(copied / 8..copied.wrapping_add(bytes) / 8);
        let is_read = to.is_some_and(|to| {
            // SAFETY: The words are there, and nobody else accesses them before the record is shown: a `Space` is the
            // producer's alone. Page faults are disabled, and the end was compared.
            is_user && unsafe { arch::copy_user(to.as_ptr().cast_mut().cast(), from, bytes / 8) }
        });
        if !is_read || bytes & 7 != 0 {
            flags = stack_flag::COPY | stack_flag::BROKEN;
            break;
        }
        copied = copied.wrapping_add(bytes);
    }
    Read {
        words: 1usize.wrapping_add(copied / 8),
        count: copied as u32,
        flags,
    }
}
