// SPDX-License-Identifier: GPL-2.0-only

//! Kprobes and tracepoints as values: registered while they live, gone and quiescent when dropped.
//!
//! All knowledge of the layout of `struct kprobe` is here; the `kernel` crate has no binding for it.
//!
//! C headers: `include/linux/kprobes.h`, `include/linux/tracepoint.h`.

use core::{
    ffi::{c_int, c_void},
    mem::{offset_of, size_of},
};
use kernel::{bindings, error::to_result, prelude::*, str::CStrExt, types::Opaque};

/// What runs when a probed function is entered: in the context of its caller, preemption disabled. It
/// finds the function's arguments in the registers and returns 0.
pub(crate) type Handler = unsafe extern "C" fn(*mut RawKprobe, *mut bindings::pt_regs) -> c_int;

/// `struct kprobe` of `include/linux/kprobes.h`, for 64-bit kernels with `CONFIG_KPROBES`. A test
/// compares it with the running kernel's type information.
#[repr(C)]
pub(crate) struct RawKprobe {
    hlist: [usize; 2],
    list: [usize; 2],
    nmissed: usize,
    addr: *mut c_void,
    symbol_name: *const core::ffi::c_char,
    offset: u32,
    pre_handler: Option<Handler>,
    post_handler: *mut c_void,
    opcode: u8,
    ainsn: [usize; 4],
    flags: u32,
    /// Room for kernels whose `arch_specific_insn` is larger.
    spare: [usize; 16],
}

const _: () = {
    assert!(offset_of!(RawKprobe, nmissed) == 32);
    assert!(offset_of!(RawKprobe, addr) == 40);
    assert!(offset_of!(RawKprobe, symbol_name) == 48);
    assert!(offset_of!(RawKprobe, pre_handler) == 64);
    assert!(offset_of!(RawKprobe, flags) == 120);
    assert!(size_of::<RawKprobe>() == 128 + 16 * 8);
};

extern "C" {
    fn register_kprobe(probe: *mut RawKprobe) -> c_int;
    fn unregister_kprobe(probe: *mut RawKprobe);
}

/// A registered kprobe at the entry of a kernel function.
///
/// # Invariants
///
/// `raw` was registered by `register_kprobe` and has not been moved since.
pub(crate) struct Kprobe {
    raw: Pin<KBox<Opaque<RawKprobe>>>,
}

// SAFETY: The kernel lets any thread unregister a kprobe; the fields are only read by `missed`.
unsafe impl Send for Kprobe {}
// SAFETY: As above.
unsafe impl Sync for Kprobe {}

impl Kprobe {
    /// Probes the entry of the function called `symbol`.
    ///
    /// # Errors
    ///
    /// Those of `register_kprobe`, such as `ENOENT` for a function that this kernel does not have, and
    /// `ENOEXEC` if its `struct kprobe` is not the one that this module knows.
    pub(crate) fn at_entry(symbol: &'static CStr, handler: Handler) -> Result<Self> {
        let raw = KBox::pin(Opaque::zeroed(), GFP_KERNEL)?;
        let probe: *mut RawKprobe = raw.get();
        // SAFETY: The box is ours alone and zeroed, which is valid for every field.
        unsafe {
            (*probe).symbol_name = symbol.as_ptr().cast();
            (*probe).pre_handler = Some(handler);
        }
        // SAFETY: `probe` is filled in as the function asks and pinned until `drop` unregisters it.
        to_result(unsafe { register_kprobe(probe) })?;
        // INVARIANT: Just registered.
        let this = Self { raw };
        // SAFETY: The probe is registered and its memory alive.
        if unsafe { (*probe).addr.is_null() } {
            pr_err!("struct kprobe of this kernel has an unknown layout\n");
            return Err(ENOEXEC);
        }
        Ok(this)
    }

    /// Entries of the function that the kernel could not let the handler see, since registration.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: The kernel may add to the counter at any time; a volatile read of an aligned word
        // sees one of its values.
        unsafe { (&raw const (*self.raw.get()).nmissed).read_volatile() as u64 }
    }
}

impl Drop for Kprobe {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is registered. The call returns when no handler runs any
        // more, so that the memory can be freed.
        unsafe { unregister_kprobe(self.raw.get()) };
    }
}

/// A probe attached to a tracepoint.
///
/// # Invariants
///
/// `probe` is attached to `tracepoint` with no data.
pub(crate) struct Tracepoint {
    tracepoint: *mut bindings::tracepoint,
    probe: *mut c_void,
}

// SAFETY: The kernel lets any thread detach a probe.
unsafe impl Send for Tracepoint {}
// SAFETY: There is nothing to be done by a shared reference.
unsafe impl Sync for Tracepoint {}

/// A search by name among the kernel's tracepoints.
struct Search {
    name: &'static CStr,
    found: *mut bindings::tracepoint,
}

/// # Safety
///
/// `tracepoint` is a tracepoint and `search` points to a [`Search`].
unsafe extern "C" fn compare_name(tracepoint: *mut bindings::tracepoint, search: *mut c_void) {
    // SAFETY: By the function's contract, which `Tracepoint::attach` keeps.
    let search = unsafe { &mut *search.cast::<Search>() };
    // SAFETY: A tracepoint's name is a C string that lives as long as the kernel.
    let name = unsafe { CStr::from_char_ptr((*tracepoint).name) };
    if name == search.name {
        search.found = tracepoint;
    }
}

impl Tracepoint {
    /// Attaches `probe` to the kernel's tracepoint called `name`.
    ///
    /// # Safety
    ///
    /// `probe` must be a function with the C calling convention that takes a data pointer (null) and
    /// then the arguments of that tracepoint's `TP_PROTO`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such tracepoint; those of `tracepoint_probe_register`.
    pub(crate) unsafe fn attach(name: &'static CStr, probe: *mut c_void) -> Result<Self> {
        let mut search = Search {
            name,
            found: core::ptr::null_mut(),
        };
        // SAFETY: `compare_name` gets the `Search` that it expects, and is not called after this.
        unsafe {
            bindings::for_each_kernel_tracepoint(
                Some(compare_name),
                (&raw mut search).cast::<c_void>(),
            )
        };
        if search.found.is_null() {
            return Err(ENOENT);
        }
        // SAFETY: A tracepoint of the kernel proper never goes away; `probe` fits it by contract.
        to_result(unsafe {
            bindings::tracepoint_probe_register(search.found, probe, core::ptr::null_mut())
        })?;
        // INVARIANT: Just attached.
        Ok(Self {
            tracepoint: search.found,
            probe,
        })
    }
}

impl Drop for Tracepoint {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the probe is attached. `synchronize_srcu` on the tracepoints'
        // domain is what `tracepoint_synchronize_unregister` does for probes that do not fault: after
        // it no CPU executes the probe.
        unsafe {
            bindings::tracepoint_probe_unregister(
                self.tracepoint,
                self.probe,
                core::ptr::null_mut(),
            );
            bindings::synchronize_srcu(&raw mut bindings::tracepoint_srcu);
        }
    }
}
