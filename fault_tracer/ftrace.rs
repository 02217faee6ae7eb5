// SPDX-License-Identifier: GPL-2.0-only

//! An ftrace hook at the entry of a kernel function, as a value: registered while it lives, gone and quiescent
//! when dropped.
//!
//! It costs a fifth of a kprobe at the same place: the function's own nop calls a trampoline of this hook alone,
//! which saves the arguments and calls the handler. Where others trace the function, too, the kernel calls all
//! of them in a row.
//!
//! C header: `include/linux/ftrace.h`.

use core::{
    ffi::{c_int, c_uchar, c_ulong, c_void},
    mem::{offset_of, ManuallyDrop},
};
use kernel::{bindings, error::to_result, prelude::*, types::Opaque};

use super::{
    arch,
    layout::{structure, Structure},
    probe,
};

/// What runs when a hooked function is entered: in the context of its caller, preemption as it was there. It
/// finds the function's arguments in the registers; other registers need not be saved.
pub(crate) type Handler =
    unsafe extern "C" fn(c_ulong, c_ulong, *mut RawOps, *mut bindings::pt_regs);

/// `struct ftrace_ops`: the fields that a caller fills in, and room for those that are the kernel's own. A test
/// compares it with the running kernel's type information.
#[repr(C)]
pub(crate) struct RawOps {
    func: Option<Handler>,
    next: *mut c_void,
    flags: c_ulong,
    private: *mut c_void,
    /// It is 272 bytes long with Debian's configuration; lock debugging makes its mutexes longer.
    rest: [usize; 128],
}

const _: () = {
    assert!(offset_of!(RawOps, func) == 0);
    assert!(offset_of!(RawOps, flags) == 16);
    assert!(offset_of!(RawOps, private) == 24);
};

/// What is to be compared with the kernel that loads the module.
pub(crate) const LAYOUT: &[Structure] = &[structure!(c"ftrace_ops", RawOps: func, flags, private)];

/// `FTRACE_OPS_FL_INITIALIZED`: set by the kernel.
const INITIALIZED: c_ulong = 1 << 6;
/// `FTRACE_OPS_FL_PERMANENT`: the sysctl `kernel.ftrace_enabled` cannot silence it, and refuses to be cleared.
const PERMANENT: c_ulong = 1 << 16;

extern "C" {
    fn register_ftrace_function(ops: *mut RawOps) -> c_int;
    fn unregister_ftrace_function(ops: *mut RawOps) -> c_int;
    fn ftrace_set_filter_ip(ops: *mut RawOps, ip: c_ulong, remove: c_int, reset: c_int) -> c_int;
    fn ftrace_free_filter(ops: *mut RawOps);
    // Only its address is taken.
    fn handle_mm_fault() -> c_uchar;
}

/// Where `handle_mm_fault` begins.
fn fault_address() -> *const u8 {
    handle_mm_fault as unsafe extern "C" fn() -> c_uchar as *const u8
}

/// A registered hook at the entry of `handle_mm_fault`.
///
/// # Invariants
///
/// `raw` was registered by `register_ftrace_function` and has not been moved since.
pub(crate) struct Hook {
    raw: ManuallyDrop<Pin<KBox<Opaque<RawOps>>>>,
}

// SAFETY: The kernel lets any thread unregister a hook; nothing else is done by a shared reference.
unsafe impl Send for Hook {}
// SAFETY: As above.
unsafe impl Sync for Hook {}

impl Hook {
    /// Calls `handler` whenever `handle_mm_fault` is entered.
    ///
    /// # Errors
    ///
    /// `EINVAL` where the function cannot be traced, `EBUSY` while `kernel.ftrace_enabled` is 0, `ENODEV` while
    /// ftrace is switched off after a fault of its own, `ENOMEM`, and `ENOEXEC` if the kernel's `struct
    /// ftrace_ops` is not the one that this module knows.
    pub(crate) fn at_fault(handler: Handler) -> Result<Self> {
        let raw = KBox::pin(Opaque::zeroed(), GFP_KERNEL)?;
        let ops: *mut RawOps = raw.get();
        // SAFETY: The box is ours alone and zeroed, which is valid for every field: the kernel initializes its own.
        unsafe {
            (*ops).func = Some(handler);
            // Without `FTRACE_OPS_FL_RECURSION`, which asks for protection: the trampoline calls the handler
            // directly, which never comes back to itself. It takes no fault, and interrupts take none, either.
            (*ops).flags = PERMANENT;
        }
        let address = fault_address() as c_ulong;
        // SAFETY: `ops` is filled in as the function asks and pinned; it is not registered yet.
        let filtered = to_result(unsafe { ftrace_set_filter_ip(ops, address, 0, 0) });
        let registered = filtered.and_then(|()| {
            // SAFETY: As above. Without a filter it would hook every function: then it is not registered.
            to_result(unsafe { register_ftrace_function(ops) })
        });
        if let Err(error) = registered {
            // SAFETY: It is not registered; what the filter took is given back.
            unsafe { ftrace_free_filter(ops) };
            return Err(error);
        }
        // INVARIANT: Just registered.
        let this = Self {
            raw: ManuallyDrop::new(raw),
        };
        // SAFETY: It is registered and its memory alive.
        if unsafe { (&raw const (*ops).flags).read_volatile() } & INITIALIZED == 0 {
            pr_err!("struct ftrace_ops of this kernel has an unknown layout\n");
            return Err(ENOEXEC);
        }
        Ok(this)
    }
}

impl Hook {
    /// Whether the function calls the hook: its entry was patched. Where the kernel failed to do so and did not
    /// say it, nothing fires and nothing counts that.
    pub(crate) fn is_called(&self) -> bool {
        // SAFETY: The function's code lives as long as the kernel.
        unsafe { arch::calls_at_entry(fault_address()) }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is registered. The call waits until no task is in the trampoline or the
        // handler any more (`ftrace_shutdown`: synchronize_rcu_tasks_rude, and synchronize_rcu_tasks for a
        // trampoline that a preempted task may be in), so that the memory can be freed after the filter.
        unsafe {
            if unregister_ftrace_function(self.raw.get()) == 0 {
                ftrace_free_filter(self.raw.get());
                ManuallyDrop::drop(&mut self.raw);
            } else {
                probe::stay("ftrace hook");
            }
        }
    }
}
