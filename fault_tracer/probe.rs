// SPDX-License-Identifier: GPL-2.0-only

//! Kprobes, return hooks and tracepoints as values: registered while they live, gone and quiescent when
//! dropped.
//!
//! All knowledge of the layout of `struct kprobe` and `struct kretprobe` is here; the `kernel` crate has no
//! binding for them.
//!
//! C headers: `include/linux/kprobes.h`, `include/linux/tracepoint.h`.

use core::{
    ffi::{c_int, c_void},
    marker::PhantomData,
    mem::{offset_of, size_of, ManuallyDrop, MaybeUninit},
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel::{bindings, error::to_result, prelude::*, str::CStrExt, types::Opaque};

use super::{
    arch, compat,
    layout::{structure, Structure},
};

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
    opcode: arch::Opcode,
    ainsn: [usize; arch::PROBED_INSTRUCTION_WORDS],
    flags: u32,
    /// Room for kernels whose `arch_specific_insn` is larger.
    spare: [usize; 16],
}

const _: () = {
    assert!(offset_of!(RawKprobe, nmissed) == 32);
    assert!(offset_of!(RawKprobe, addr) == 40);
    assert!(offset_of!(RawKprobe, symbol_name) == 48);
    assert!(offset_of!(RawKprobe, pre_handler) == 64);
    assert!(size_of::<RawKprobe>() == 8 * KPROBE_WORDS + 16 * 8);
};
#[cfg(target_arch = "x86_64")]
const _: () = {
    assert!(offset_of!(RawKprobe, flags) == 120);
};
#[cfg(target_arch = "aarch64")]
const _: () = {
    assert!(offset_of!(RawKprobe, flags) == 112);
};

extern "C" {
    fn register_kprobe(probe: *mut RawKprobe) -> c_int;
    fn unregister_kprobe(probe: *mut RawKprobe);
    fn register_kretprobe(probe: *mut RawKretprobe) -> c_int;
    fn unregister_kretprobe(probe: *mut RawKretprobe);
}

/// `LIST_POISON2` of `include/linux/poison.h`, on 64-bit machines: `pprev` of what was taken out of a list.
const LIST_POISON2: usize = 0xdead_0000_0000_0122;

/// A registered kprobe at the entry of a kernel function.
///
/// # Invariants
///
/// `raw` was registered by `register_kprobe` and has not been moved since.
pub(crate) struct Kprobe {
    raw: ManuallyDrop<Pin<KBox<Opaque<RawKprobe>>>>,
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
        // SAFETY: The box is alive; whoever probes the same function at this moment may write there, one word each.
        let (hash, list) = unsafe {
            let list = &raw const (*probe).list;
            let hash = (&raw const (*probe).hlist).cast::<usize>().add(1);
            (
                hash.read_volatile(),
                list.cast::<usize>().read_volatile() == list as usize,
            )
        };
        // Linux 7.3 says that all is well where it had no memory to arm the probe, and has taken it out again; waited for
        // readers, too, so that its memory can be freed. Another on the same function would have it in its list.
        if hash == LIST_POISON2 && list {
            return Err(ENOMEM);
        }
        // INVARIANT: Just registered.
        let this = Self {
            raw: ManuallyDrop::new(raw),
        };
        // SAFETY: The probe is registered and its memory alive.
        if unsafe { (*probe).addr.is_null() } {
            pr_err!("struct kprobe of this kernel has an unknown layout\n");
            return Err(ENOEXEC);
        }
        Ok(this)
    }

    /// Puts another handler in the place of the present one. Handlers that run go on.
    pub(crate) fn set_handler(&self, handler: Handler) {
        // SAFETY: The kernel reads this word, which is aligned, each time that the probe is hit; a function
        // pointer has the size and the values of another. Only readers use the field otherwise.
        let word = unsafe {
            AtomicPtr::<c_void>::from_ptr((&raw mut (*self.raw.get()).pre_handler).cast())
        };
        word.store(handler as *mut c_void, Ordering::Release);
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
        let probe: *mut RawKprobe = self.raw.get();
        // SAFETY: By the type invariant it is registered. The call returns when no handler runs any
        // more, so that the memory can be freed; unless it fails, of which a missing address tells
        // (`unregister_kprobes` of `kernel/kprobes.c`).
        unsafe {
            unregister_kprobe(probe);
            if (&raw const (*probe).addr).read().is_null() {
                stay("kprobe");
            } else {
                ManuallyDrop::drop(&mut self.raw);
            }
        }
    }
}

/// Keeps the module for ever, as the kernel could not take one of its hooks away and may call its handler. So may its memory be
/// used: whoever calls this does not free it.
pub(crate) fn stay(hook: &str) {
    pr_err!("the kernel could not take the {hook} away: it stays, and the module with it, until the next boot\n");
    // SAFETY: The module is loaded as long as this runs.
    unsafe { bindings::__module_get(compat::this_module()) };
}

/// What runs when a hooked function returns: in the context of its caller, preemption disabled. It finds
/// the value returned in the registers, and returns 0.
pub(crate) type ReturnHandler =
    unsafe extern "C" fn(*mut RawInstance, *mut bindings::pt_regs) -> c_int;

/// `struct kretprobe` of `include/linux/kprobes.h`. The same test compares it.
#[repr(C)]
struct RawKretprobe {
    /// A `struct kprobe` without the room that [`RawKprobe`] has to spare.
    kp: [usize; KPROBE_WORDS],
    handler: Option<ReturnHandler>,
    entry_handler: *mut c_void,
    maxactive: c_int,
    nmissed: c_int,
    data_size: usize,
    rh: *mut c_void,
    spare: [usize; 8],
}

/// Words of a `struct kprobe`: the room to spare in [`RawKprobe`] is not part of it.
const KPROBE_WORDS: usize = 12 + arch::PROBED_INSTRUCTION_WORDS;

/// `KPROBE_FLAG_DISABLED`.
const DISABLED: u32 = 2;

/// `struct kretprobe_instance`: one function call whose return is hooked. Data of the hook's own follow. What is called after
/// rethooks has other names, and the same places, in kernels without `CONFIG_KRETPROBE_ON_RETHOOK`.
#[repr(C)]
pub(crate) struct RawInstance {
    rcu: [usize; 2],
    llist: bindings::llist_node,
    rethook: *mut c_void,
    ret_addr: usize,
    frame: usize,
}

const _: () = {
    assert!(offset_of!(RawKretprobe, kp) == 0);
    assert!(size_of::<RawKretprobe>() == 8 * KPROBE_WORDS + 40 + 8 * 8);
    assert!(offset_of!(RawInstance, llist) == 16);
    assert!(offset_of!(RawInstance, rethook) == 24);
    assert!(offset_of!(RawInstance, ret_addr) == 32);
    assert!(offset_of!(RawInstance, frame) == 40);
    assert!(size_of::<RawInstance>() == 48);
};
#[cfg(target_arch = "x86_64")]
const _: () = {
    assert!(offset_of!(RawKretprobe, handler) == 128);
    assert!(offset_of!(RawKretprobe, entry_handler) == 136);
    assert!(offset_of!(RawKretprobe, maxactive) == 144);
    assert!(offset_of!(RawKretprobe, nmissed) == 148);
    assert!(offset_of!(RawKretprobe, data_size) == 152);
    assert!(offset_of!(RawKretprobe, rh) == 160);
};
#[cfg(target_arch = "aarch64")]
const _: () = {
    assert!(offset_of!(RawKretprobe, handler) == 120);
    assert!(offset_of!(RawKretprobe, entry_handler) == 128);
    assert!(offset_of!(RawKretprobe, maxactive) == 136);
    assert!(offset_of!(RawKretprobe, nmissed) == 140);
    assert!(offset_of!(RawKretprobe, data_size) == 144);
    assert!(offset_of!(RawKretprobe, rh) == 152);
};

/// What is to be compared with the kernel that loads the module.
pub(crate) const LAYOUT: &[Structure] = &[
    structure!(c"kprobe", RawKprobe: nmissed, addr, symbol_name, pre_handler, flags),
    structure!(c"kretprobe", RawKretprobe: kp, handler, entry_handler, maxactive, nmissed, data_size),
    #[cfg(CONFIG_KRETPROBE_ON_RETHOOK)]
    structure!(c"rethook_node", RawInstance: llist, rethook, ret_addr, frame),
    #[cfg(not(CONFIG_KRETPROBE_ON_RETHOOK))]
    structure!(c"kretprobe_instance", RawInstance: llist, ret_addr),
];

/// Hooks returns of a function at the wish of a handler at its entry.
///
/// A kretprobe of its own on that function would ask for an instance at each entry, whoever makes it, before
/// our handler could say that it wants none; and an entry without an instance would not be seen. So this
/// one is registered *disabled*, on a function that does not matter: no code is patched for it. What
/// is used of it is the handler that the kernel gave it (`pre_handler_kretprobe` of `kernel/kprobes.c`), which
/// hooks the return of the function whose entry registers it is called with.
///
/// # Invariants
///
/// `raw` was registered by `register_kretprobe` and has not been moved since. Its instances have room for
/// a `T`.
pub(crate) struct ReturnHook<T> {
    raw: Pin<KBox<Opaque<RawKretprobe>>>,
    data: PhantomData<T>,
}

// SAFETY: The kernel lets any thread unregister a kretprobe; `place` only reads.
unsafe impl<T> Send for ReturnHook<T> {}
// SAFETY: As above.
unsafe impl<T> Sync for ReturnHook<T> {}

impl<T> ReturnHook<T> {
    /// A hook that calls `handler`, and can wait for `instances` returns at the same time.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; those of `register_kretprobe`; `ENOEXEC` if the kernel's structures are not those that this
    /// module knows.
    pub(crate) fn new(handler: ReturnHandler, instances: c_int) -> Result<Self> {
        let raw = KBox::pin(Opaque::zeroed(), GFP_KERNEL)?;
        let hook: *mut RawKretprobe = raw.get();
        // SAFETY: The box is ours alone and zeroed, which is valid for every field. The first of them is a
        // `struct kprobe`, of which `RawKprobe` names the fields.
        unsafe {
            let probe = hook.cast::<RawKprobe>();
            // Exported for drivers, and there on every machine with an MMU.
            (&raw mut (*probe).symbol_name).write(c"fixup_user_fault".as_ptr().cast());
            (&raw mut (*probe).flags).write(DISABLED);
            (*hook).handler = Some(handler);
            (*hook).maxactive = instances;
            (*hook).data_size = size_of::<T>();
        }
        // SAFETY: It is filled in as the function asks and pinned until `drop` unregisters it.
        to_result(unsafe { register_kretprobe(hook) })?;
        // INVARIANT: Just registered.
        let this = Self {
            raw,
            data: PhantomData,
        };
        // SAFETY: It is registered and its memory alive.
        let known = unsafe {
            let probe = hook.cast::<RawKprobe>();
            (&raw const (*probe).pre_handler).read().is_some()
                && !(&raw const (*probe).addr).read().is_null()
                && !(*hook).rh.is_null()
        };
        if !known {
            pr_err!("struct kretprobe of this kernel has an unknown layout\n");
            return Err(ENOEXEC);
        }
        Ok(this)
    }

    /// Hooks the return of the function that is being entered. Gives room for what the handler shall find,
    /// or `None` if all instances are in use.
    ///
    /// # Safety
    ///
    /// To be called by the handler of a [`Kprobe::at_entry`], or of an ftrace hook where `arch::RETURNS_AFTER_FTRACE`, with its
    /// registers and the running thread's task, preemption disabled. The room is to be used until that handler returns, and to be filled by then.
    #[inline(always)]
    pub(crate) unsafe fn place<'a>(
        &self,
        task: *mut bindings::task_struct,
        registers: *mut bindings::pt_regs,
    ) -> Option<&'a mut MaybeUninit<T>> {
        let probe = self.raw.get().cast::<RawKprobe>();
        // SAFETY: The kernel's handler for this probe is called in the context that it is made for. The
        // list is the running thread's own: nobody else writes it. An instance that was put there is followed
        // by room for a `T`, by the type invariant, that nobody uses before the function returns.
        unsafe {
            let first = returns_awaited_by(task);
            let before = first.read();
            if let Some(handler) = (&raw const (*probe).pre_handler).read() {
                handler(probe, registers);
            }
            let after = first.read();
            if after == before {
                return None;
            }
            let instance = after
                .byte_sub(offset_of!(RawInstance, llist))
                .cast::<RawInstance>();
            Some(&mut *instance.add(1).cast())
        }
    }
}

/// Where a thread has the first of its function calls whose returns are hooked.
///
/// # Safety
///
/// `task` is alive.
#[inline(always)]
unsafe fn returns_awaited_by(task: *mut bindings::task_struct) -> *const *mut bindings::llist_node {
    // SAFETY: By the contract.
    unsafe {
        #[cfg(CONFIG_KRETPROBE_ON_RETHOOK)]
        return &raw const (*task).rethooks.first;
        #[cfg(not(CONFIG_KRETPROBE_ON_RETHOOK))]
        return &raw const (*task).kretprobe_instances.first;
    }
}

impl RawInstance {
    /// What the room of [`ReturnHook::place`] was filled with.
    ///
    /// # Safety
    ///
    /// `this` is what a handler of a `ReturnHook<T>` was called with, and it has not returned yet.
    #[inline(always)]
    pub(crate) unsafe fn data<'a, T>(this: *mut Self) -> &'a T {
        // SAFETY: By the contracts of this function and of `place`.
        unsafe { &*this.add(1).cast::<T>() }
    }
}

impl<T> Drop for ReturnHook<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is registered. When the call returns, no handler runs any more and
        // none will; instances of functions that have not returned are the kernel's, which frees them
        // when they have.
        unsafe { unregister_kretprobe(self.raw.get()) };
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
        // SAFETY: By the type invariant the probe is attached. Waiting for the tracepoints' domain is what
        // `tracepoint_synchronize_unregister` does for probes that do not fault: after it no CPU executes the
        // probe. Expedited, here and elsewhere in the module: it interrupts the CPUs that are busy, as changing
        // the code of the hooks does anyway, and takes a twentieth of the time, several times for each session.
        unsafe {
            bindings::tracepoint_probe_unregister(
                self.tracepoint,
                self.probe,
                core::ptr::null_mut(),
            );
            bindings::synchronize_srcu_expedited(&raw mut bindings::tracepoint_srcu);
        }
    }
}
