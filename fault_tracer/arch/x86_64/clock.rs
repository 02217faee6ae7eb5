// SPDX-License-Identifier: GPL-2.0-only

//! `CLOCK_MONOTONIC` in place, from the time-stamp counter.
//!
//! A call of `ktime_get` takes half as many instructions as all the rest of a record: it reads the counter
//! through a pointer to a function, and what the caller has in registers must be kept across it. So
//! [`read_quickly`] computes it as KVM does for its guests: the kernel tells
//! whoever asks (`pvclock_gtod_register_notifier`) of each change of the clock's parameters, before
//! anybody can read the clock by the new ones. The formula is that of `timekeeping_cycles_to_ns`
//! (`kernel/time/timekeeping.c`), so the results are equal to those of `ktime_get`, to the nanosecond. Where the clock
//! does not run on the time-stamp counter, there is only `ktime_get`.

use core::{
    arch::asm,
    cell::UnsafeCell,
    mem::offset_of,
    ptr::null_mut,
    sync::atomic::{fence, AtomicU64, Ordering},
};
use kernel::{
    bindings,
    ffi::{c_int, c_ulong, c_void},
    prelude::*,
};

use crate::layout::{structure, Structure};

/// `struct tk_read_base` of `include/linux/timekeeper_internal.h`, with which `struct timekeeper` begins.
/// A test compares it with the running kernel's type information.
#[repr(C)]
struct ReadBase {
    clock: *const ClockSource,
    mask: u64,
    cycle_last: u64,
    mult: u32,
    shift: u32,
    xtime_nsec: u64,
    base: u64,
}

/// The beginning of `struct clocksource` of `include/linux/clocksource.h`. A test compares it likewise.
#[repr(C)]
struct ClockSource {
    before: [u64; 5],
    max_cycles: u64,
    between: [u64; 5],
    id: u32,
    vdso_clock_mode: u32,
}

const _: () = {
    assert!(offset_of!(ReadBase, clock) == 0);
    assert!(offset_of!(ReadBase, mask) == 8);
    assert!(offset_of!(ReadBase, cycle_last) == 16);
    assert!(offset_of!(ReadBase, mult) == 24);
    assert!(offset_of!(ReadBase, shift) == 28);
    assert!(offset_of!(ReadBase, xtime_nsec) == 32);
    assert!(offset_of!(ReadBase, base) == 40);
    assert!(offset_of!(ClockSource, max_cycles) == 40);
    assert!(offset_of!(ClockSource, vdso_clock_mode) == 92);
};

/// What is to be compared with the kernel that loads the module.
pub(crate) const LAYOUT: &[Structure] = &[
    structure!(c"tk_read_base", ReadBase: clock, mask, cycle_last, mult, shift, xtime_nsec, base),
    structure!(c"clocksource", ClockSource: max_cycles, vdso_clock_mode),
    Structure {
        name: c"timekeeper",
        members: &[("tkr_mono", 0)],
    },
];

/// `VDSO_CLOCKMODE_TSC`: the first of `VDSO_ARCH_CLOCKMODES`, `arch/x86/include/asm/vdso/clocksource.h`.
const CLOCKMODE_TSC: u32 = 1;

extern "C" {
    fn pvclock_gtod_register_notifier(notifier: *mut bindings::notifier_block) -> c_int;
    fn pvclock_gtod_unregister_notifier(notifier: *mut bindings::notifier_block) -> c_int;
}

/// How cycles of the time-stamp counter become nanoseconds: one cache line, written at each tick by the
/// CPU that keeps the time.
///
/// A writer counts in `begun`, writes the rest, and brings `done` level with it. A reader that finds `done`
/// before and `begun` after its look at the same count has seen one state of the rest.
#[repr(align(64))]
struct Parameters {
    begun: AtomicU64,
    cycle_last: AtomicU64,
    max_cycles: AtomicU64,
    mult: AtomicU64,
    xtime_nsec: AtomicU64,
    shift: AtomicU64,
    base: AtomicU64,
    done: AtomicU64,
}

/// Not to be used until the kernel has reported them: `begun` differs from `done`.
static PARAMETERS: Parameters = Parameters {
    begun: AtomicU64::new(1),
    cycle_last: AtomicU64::new(0),
    max_cycles: AtomicU64::new(0),
    mult: AtomicU64::new(0),
    xtime_nsec: AtomicU64::new(0),
    shift: AtomicU64::new(0),
    base: AtomicU64::new(0),
    done: AtomicU64::new(0),
};

impl Parameters {
    /// Takes over what the kernel tells, `None` if it cannot be used. One writer at a time.
    fn set(&self, reported: Option<(&ReadBase, u64)>) {
        let count = self.begun.load(Ordering::Relaxed).wrapping_add(1);
        self.begun.store(count, Ordering::Relaxed);
        // A reader that sees anything of what follows sees that it has begun.
        fence(Ordering::Release);
        if let Some((reported, max_cycles)) = reported {
            for (to, value) in [
                (&self.cycle_last, reported.cycle_last),
                (&self.max_cycles, max_cycles),
                (&self.mult, reported.mult.into()),
                (&self.xtime_nsec, reported.xtime_nsec),
                (&self.shift, reported.shift.into()),
                (&self.base, reported.base),
            ] {
                to.store(value, Ordering::Relaxed);
            }
            self.done.store(count, Ordering::Release);
        }
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, or `None` where it takes a call to find out: while the parameters
/// change, when they have not for too long, when the counter seems to have gone back, and for good where
/// another counter drives the clock.
#[inline(always)]
pub(crate) fn read_quickly() -> Option<u64> {
    let nanoseconds: u64;
    // SAFETY: Loads of our own words, which others may change at any time, and of the counter that the
    // kernel's own clock reads, in the order written: x86 does not reorder loads, `lfence` holds the
    // counter between them, and the compiler takes the whole for one access to memory. (By the compiler it
    // would be 7 instructions more, as it does not compute with what it loads atomically.) Where the counter
    // is behind `cycle_last`, the difference is huge, too.
    unsafe {
        asm!(
            "mov {done}, [rip + {parameters} + {done_at}]",
            "lfence",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "sub rax, [rip + {parameters} + {cycle_last_at}]",
            "cmp rax, [rip + {parameters} + {max_cycles_at}]",
            "ja 2f",
            "imul rax, [rip + {parameters} + {mult_at}]",
            "mov ecx, [rip + {parameters} + {shift_at}]",
            "add rax, [rip + {parameters} + {xtime_nsec_at}]",
            "shr rax, cl",
            "add rax, [rip + {parameters} + {base_at}]",
            "cmp {done}, [rip + {parameters} + {begun_at}]",
            "je 3f",
            "2:",
            "xor eax, eax",
            "3:",
            done = out(reg) _,
            out("rax") nanoseconds,
            out("rcx") _,
            out("rdx") _,
            parameters = sym PARAMETERS,
            begun_at = const offset_of!(Parameters, begun),
            cycle_last_at = const offset_of!(Parameters, cycle_last),
            max_cycles_at = const offset_of!(Parameters, max_cycles),
            mult_at = const offset_of!(Parameters, mult),
            xtime_nsec_at = const offset_of!(Parameters, xtime_nsec),
            shift_at = const offset_of!(Parameters, shift),
            base_at = const offset_of!(Parameters, base),
            done_at = const offset_of!(Parameters, done),
            options(nostack, readonly),
        )
    };
    // Not the time of any fault: the clock begins at 0 when the kernel does.
    (nanoseconds != 0).then_some(nanoseconds)
}

/// Whether [`read_quickly`] has an answer nearly always: whether the clock runs on the time-stamp counter.
pub(crate) fn is_quick() -> bool {
    // Eight changes of the parameters in a row are not to be met.
    (0..8).any(|_| read_quickly().is_some())
}

/// What the kernel calls when the parameters change. It holds the lock of its clock, so there is one call
/// at a time, and no reader of that clock meanwhile.
///
/// # Safety
///
/// Called by the kernel alone, with its `struct timekeeper`.
unsafe extern "C" fn on_change(
    _notifier: *mut bindings::notifier_block,
    _was_set: c_ulong,
    timekeeper: *mut c_void,
) -> c_int {
    // SAFETY: The structure begins with a `tk_read_base`, whose clock source is one that the kernel uses.
    let (reported, source) = unsafe {
        let reported = &*timekeeper.cast::<ReadBase>();
        (reported, &*reported.clock)
    };
    let usable =
        source.vdso_clock_mode == CLOCKMODE_TSC && reported.mask == u64::MAX && reported.shift < 64;
    PARAMETERS.set(usable.then_some((reported, source.max_cycles)));
    bindings::NOTIFY_OK as c_int
}

/// The entry in the kernel's list.
struct Notifier(UnsafeCell<bindings::notifier_block>);

// SAFETY: The kernel uses it under its lock; we touch it only before and after it is in the list.
unsafe impl Sync for Notifier {}

static NOTIFIER: Notifier = Notifier(UnsafeCell::new(bindings::notifier_block {
    notifier_call: Some(on_change),
    next: null_mut(),
    priority: 0,
}));

/// While it lives, [`read_quickly`] may have an answer.
pub(crate) struct Quick(());

impl Quick {
    /// Has the kernel tell the parameters of its clock from now on. At most one at a time.
    ///
    /// Where the answers prove not to be those of `by_call`, the kernel's own, as on a kernel that keeps its clock in
    /// another way, it says so in the log and there are none.
    pub(crate) fn new(by_call: fn() -> u64) -> Option<Self> {
        // SAFETY: The entry is in no list, as there is at most one `Quick`, and lives as long as the module,
        // which `drop` takes it out before.
        let result = unsafe { pvclock_gtod_register_notifier(NOTIFIER.0.get()) };
        if result != 0 {
            return None;
        }
        let this = Self(());
        for _ in 0..8 {
            let before = by_call();
            if let Some(between) = read_quickly() {
                if !(before..=by_call()).contains(&between) {
                    pr_warn!(
                        "the kernel's clock is not as expected: each record takes a call to it\n"
                    );
                    return None;
                }
            }
        }
        Some(this)
    }
}

impl Drop for Quick {
    fn drop(&mut self) {
        // SAFETY: It is in the list. When the call returns, the kernel does not use it any more.
        unsafe { pvclock_gtod_unregister_notifier(NOTIFIER.0.get()) };
        PARAMETERS.set(None);
    }
}
