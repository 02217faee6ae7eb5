// SPDX-License-Identifier: GPL-2.0-only

//! Paths of open files as their process sees them: what `d_path` prints, without a lock.
//!
//! `d_path` takes `rename_lock`, and the lock of mounts, where somebody renames or mounts meanwhile. Where the module
//! prints paths, no lock may be waited for: under PREEMPT_RT whoever holds it may be a thread that this CPU would have to
//! run. So the way up from a file is walked under RCU, and walked again to see that nothing has changed meanwhile.
//!
//! Kernel source: `fs/d_path.c`, `fs/mount.h`.

use core::{ffi::c_int, mem::offset_of};
use kernel::{bindings, ffi::c_char};

use super::{
    arch,
    layout::{structure, Structure},
    uapi,
};

/// A length of a path, which is far below the largest number, up to the end of its last slot.
pub(crate) fn slots_up(bytes: usize) -> usize {
    bytes.wrapping_add(uapi::SLOT_BYTES - 1) & !(uapi::SLOT_BYTES - 1)
}

/// `FMODE_BACKING` of `include/linux/fs.h`: the file below that of an overlay.
const FMODE_BACKING: u32 = 1 << 24;

/// The path of a file that its user opened: `file_user_path` of `include/linux/fs.h`.
///
/// # Safety
///
/// `file` is an open file.
pub(crate) unsafe fn user_path(file: *const bindings::file) -> *const bindings::path {
    // SAFETY: By the contract; `f_mode` does not change, and `f_path` lives as long as the file.
    unsafe {
        if (*file).f_mode & FMODE_BACKING != 0 {
            bindings::backing_file_user_path(file)
        } else {
            &raw const (*file).__bindgen_anon_1.f_path
        }
    }
}

/// The beginning of `struct mount` (`fs/mount.h`), up to the part that others know. A test compares it with the running
/// kernel's type information.
#[repr(C)]
struct RawMount {
    mnt_hash: [usize; 2],
    mnt_parent: *const RawMount,
    mnt_mountpoint: *const bindings::dentry,
    mnt: bindings::vfsmount,
}

/// The beginning of `struct fs_struct` (`include/linux/fs_struct.h`). The same test compares it.
#[repr(C)]
struct RawFs {
    users: c_int,
    seq: bindings::seqlock_t,
    umask: c_int,
    in_exec: c_int,
    root: bindings::path,
}

const _: () = {
    assert!(offset_of!(RawMount, mnt_parent) == 16);
    assert!(offset_of!(RawMount, mnt_mountpoint) == 24);
    assert!(offset_of!(RawMount, mnt) == 32);
};

/// Where the root is: under PREEMPT_RT the lock before it is longer, as it is with debugging of locks.
#[cfg(not(any(CONFIG_DEBUG_SPINLOCK, CONFIG_DEBUG_LOCK_ALLOC)))]
const _: () = assert!(offset_of!(RawFs, root) == if cfg!(CONFIG_PREEMPT_RT) { 64 } else { 24 });

/// What is to be compared with the kernel that loads the module.
pub(crate) const LAYOUT: &[Structure] = &[
    structure!(c"mount", RawMount: mnt_parent, mnt_mountpoint, mnt),
    structure!(c"fs_struct", RawFs: root),
];

/// Steps from a file up to the root. A path of `PATH_MAX` has half as many, and each mount is one more.
const STEPS: usize = 4096;

/// Times that a path is printed while others change it.
const TRIES: usize = 4;

/// Where a way up ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the root of the process, or of a mount that is at no place.
    Top,
    /// Outside of what is mounted.
    Escaped,
    /// Where it was enough.
    Stopped,
}

/// A place: in a mount, a name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    mount: *const bindings::vfsmount,
    dentry: *const bindings::dentry,
}

/// The root of the running process; whoever has no root sees all.
fn root() -> Place {
    let nowhere = Place {
        mount: core::ptr::null(),
        dentry: core::ptr::null(),
    };
    // SAFETY: The running thread's own structure stays while it runs. Others who share it may change the root: the two
    // parts are compared alone, and looked at again when the path is printed.
    unsafe {
        let fs = (&raw const (*arch::current_task()).fs)
            .read_volatile()
            .cast::<RawFs>();
        if fs.is_null() {
            return nowhere;
        }
        Place {
            mount: (&raw const (*fs).root.mnt).read_volatile(),
            dentry: (&raw const (*fs).root.dentry).read_volatile(),
        }
    }
}

/// Walks from a place up to the root: `__prepend_path`. Calls `name` with each name on the way, which stops it by false.
/// Also gives a number that is another one when the way is.
///
/// # Safety
///
/// Preemption is disabled, and `from` is the place of an open file.
unsafe fn walk(from: Place, mut name: impl FnMut(*const bindings::dentry) -> bool) -> (End, u64) {
    let root = root();
    let Place {
        mut mount,
        mut dentry,
    } = from;
    let mut number = mixed(root.dentry as u64, root.mount as u64);
    for _ in 0..STEPS {
        if (Place { mount, dentry }) == root {
            return (End::Top, number);
        }
        // SAFETY: Names and mounts above an open file are freed after an RCU grace period, which preemption being
        // disabled holds off. Each link is read once. A mount is the middle of a `struct mount`.
        unsafe {
            let above = (&raw const (*dentry).d_parent).read_volatile().cast_const();
            if dentry == (*mount).mnt_root {
                let own = mount.byte_sub(offset_of!(RawMount, mnt)).cast::<RawMount>();
                let parent = (&raw const (*own).mnt_parent).read_volatile();
                if core::ptr::eq(parent, own) {
                    return (End::Top, number);
                }
                dentry = (&raw const (*own).mnt_mountpoint).read_volatile();
                mount = &raw const (*parent).mnt;
                number = mixed(number, mount as u64);
                continue;
            }
            if above == dentry {
                return (End::Escaped, number);
            }
            number = mixed(mixed(number, dentry as u64), hash_len(dentry));
            if !name(dentry) {
                return (End::Stopped, number);
            }
            dentry = above;
        }
    }
    (End::Stopped, number)
}

/// A number of two, another one if either is.
fn mixed(number: u64, word: u64) -> u64 {
    (number.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Hash and length of a name.
///
/// # Safety
///
/// `dentry` stays in memory during the call.
unsafe fn hash_len(dentry: *const bindings::dentry) -> u64 {
    // SAFETY: By the contract; a word that others may change.
    unsafe {
        (&raw const (*dentry).__bindgen_anon_1.d_name.__bindgen_anon_1.hash_len).read_volatile()
    }
}

/// What is filled from its end.
struct Backwards<'a> {
    buffer: &'a mut [u8],
    /// Where what is there begins.
    start: usize,
}

impl Backwards<'_> {
    /// Puts bytes before what is there; false where there is no room.
    fn put(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(bytes.len()) else {
            return false;
        };
        match self.buffer.get_mut(start..self.start) {
            Some(to) => to.copy_from_slice(bytes),
            None => return false,
        }
        self.start = start;
        true
    }

    /// Puts a name before what is there, and a slash before that; false where there is no room.
    ///
    /// # Safety
    ///
    /// As [`hash_len`].
    unsafe fn put_name(&mut self, dentry: *const bindings::dentry) -> bool {
        // SAFETY: A name that is being replaced is ended by a zero byte at any time and freed after an RCU grace period
        // (`prepend_name` of `fs/d_path.c` relies on both). The length may be that of another name: then it is tried again.
        let name = unsafe {
            let length = (hash_len(dentry) >> 32) as usize;
            let name = (&raw const (*dentry).__bindgen_anon_1.d_name.name)
                .read_volatile()
                .cast::<u8>();
            let mut ended = 0;
            while ended < length.min(NAME_MOST) && *name.wrapping_add(ended) != 0 {
                ended = ended.wrapping_add(1);
            }
            core::slice::from_raw_parts(name, ended)
        };
        self.put(name) && self.put(b"/")
    }
}

/// The longest name in a folder.
const NAME_MOST: usize = bindings::NAME_MAX as usize;

/// Prints a path to the beginning of `buffer`, and zeros behind it up to the end of a slot; its last part where it does
/// not fit, or others would not leave it alone. Returns the length.
///
/// # Safety
///
/// `path` is that of an open file. Preemption is disabled.
pub(crate) unsafe fn print_path(path: *const bindings::path, buffer: &mut [u8]) -> usize {
    // SAFETY: By this function's contract; names, mounts and what may be done with them stay.
    unsafe {
        let from = Place {
            mount: (*path).mnt,
            dentry: (*path).dentry,
        };
        if let Some(length) = print_given(from, buffer) {
            return end_with_zeros(buffer, length);
        }
        // Of `PATH_MAX` bytes the last is a zero.
        let room = buffer.len().saturating_sub(1);
        for _ in 0..TRIES {
            let mut printed = Backwards {
                start: room,
                buffer: &mut *buffer,
            };
            let deleted = is_unlinked(from.dentry);
            let mut fits = !deleted || printed.put(b" (deleted)");
            let behind = printed.start;
            let (end, before) = walk(from, |dentry| {
                fits = fits && printed.put_name(dentry);
                fits
            });
            if end == End::Stopped {
                break;
            }
            if end == End::Escaped {
                printed.start = behind;
            }
            // The root itself.
            if printed.start == behind && !printed.put(b"/") {
                break;
            }
            let start = printed.start;
            let (_, after) = walk(from, |_| true);
            if before != after || deleted != is_unlinked(from.dentry) {
                continue;
            }
            let length = room.wrapping_sub(start);
            move_to_front(buffer, start, length);
            return end_with_zeros(buffer, length);
        }
        print_last_part(from.dentry, buffer)
    }
}

/// Moves bytes to the front of the buffer that they are in.
fn move_to_front(buffer: &mut [u8], from: usize, length: usize) {
    if from.wrapping_add(length) <= buffer.len() {
        let start = buffer.as_mut_ptr();
        // SAFETY: Both ranges are within the buffer, as just looked at; they may overlap.
        unsafe { core::ptr::copy(start.wrapping_add(from), start, length) };
    }
}

/// `DMA_BUF_MAGIC` of `include/uapi/linux/magic.h`.
const DMA_BUF_MAGIC: u64 = 0x444d_4142;

/// Prints what a file system without places calls a file, if it is of such a one: as `d_path` does.
///
/// # Safety
///
/// As [`print_path`].
unsafe fn print_given(from: Place, buffer: &mut [u8]) -> Option<usize> {
    let Place { mount, dentry } = from;
    // SAFETY: By the contract. The method looks at the name, and takes no lock; but of dma-buf it does.
    unsafe {
        let method = (*dentry).d_op.as_ref()?.d_dname?;
        let parent = (&raw const (*dentry).d_parent).read_volatile().cast_const();
        if parent == dentry && dentry == (*mount).mnt_root {
            return None;
        }
        if cfg!(CONFIG_PREEMPT_RT) && (*(*dentry).d_sb).s_magic as u64 == DMA_BUF_MAGIC {
            const NAME: &[u8] = b"/dmabuf:";
            buffer.get_mut(..NAME.len())?.copy_from_slice(NAME);
            return Some(NAME.len());
        }
        let start = buffer.as_mut_ptr();
        let printed = method(dentry.cast_mut(), start.cast(), buffer.len() as c_int);
        // It stands somewhere in the buffer, ended by a zero byte; or it is an error pointer, far away.
        let from = (printed as usize).wrapping_sub(start as usize);
        let mut length = 0usize;
        while *buffer.get(from.wrapping_add(length))? != 0 {
            length = length.wrapping_add(1);
        }
        move_to_front(buffer, from, length);
        Some(length)
    }
}

/// As [`print_path`], for one that is too long: `.../` and the name of the file.
///
/// # Safety
///
/// `dentry` stays during the call. Preemption is disabled.
unsafe fn print_last_part(dentry: *const bindings::dentry, buffer: &mut [u8]) -> usize {
    const FRONT: &[u8] = b".../";
    let Some((front, rest)) = buffer.split_at_mut_checked(FRONT.len()) else {
        return 0;
    };
    front.copy_from_slice(FRONT);
    // SAFETY: A name that is being replaced is ended by a zero byte at any time and freed after an RCU grace
    // period, which preemption being disabled holds off (`prepend_name` of `fs/d_path.c` relies on both).
    let length = unsafe {
        let name = (&raw const (*dentry).__bindgen_anon_1.d_name.name).read_volatile();
        copy_string(name.cast(), rest)
    };
    end_with_zeros(buffer, length.wrapping_add(FRONT.len()))
}

/// Copies a C string, or as much of it as fits. Returns the length. Not by way of `CStr`, whose length may
/// overflow by its checks.
///
/// # Safety
///
/// `string` is a C string.
pub(crate) unsafe fn copy_string(string: *const c_char, buffer: &mut [u8]) -> usize {
    let mut length = 0;
    for to in buffer.iter_mut() {
        // SAFETY: By the contract; its end has not come yet.
        let byte = unsafe { *string.wrapping_add(length).cast::<u8>() };
        if byte == 0 {
            break;
        }
        *to = byte;
        length = length.wrapping_add(1);
    }
    length
}

/// Fills up to the end of a slot with zeros.
pub(crate) fn end_with_zeros(buffer: &mut [u8], length: usize) -> usize {
    let end = slots_up(length).min(buffer.len());
    if let Some(rest) = buffer.get_mut(length..end) {
        rest.fill(0);
    }
    length
}

/// Whether a name is no longer in its folder: `d_unlinked` of `include/linux/dcache.h`.
///
/// # Safety
///
/// `dentry` is one of an open file.
#[inline(always)]
pub(crate) unsafe fn is_unlinked(dentry: *const bindings::dentry) -> bool {
    // SAFETY: By the contract. Others may change both at any time: each is read once.
    unsafe {
        (&raw const (*dentry).d_hash.pprev)
            .read_volatile()
            .is_null()
            && !core::ptr::eq((&raw const (*dentry).d_parent).read_volatile(), dentry)
    }
}

/// Folders above a file of which [`path_of`] notices new names.
const FOLDERS: usize = 64;

/// A number that is another one when a folder above a mapping's file, in the same file system, has got another
/// name or another place; 0 without a file.
///
/// # Safety
///
/// As [`super::sideband::Side::mapping`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn path_of(vma: *const bindings::vm_area_struct) -> u64 {
    let mut number: u64 = 0;
    // SAFETY: The mapping is locked, and its file has a name. Above it, what is being moved meanwhile may be
    // freed after an RCU grace period only, which preemption being disabled holds off; each link is read once.
    unsafe {
        let file = (*vma).vm_file;
        if file.is_null() {
            return 0;
        }
        let mut dentry: *const bindings::dentry = (*user_path(file)).dentry;
        for _ in 0..FOLDERS {
            let name = (&raw const (*dentry).__bindgen_anon_1.d_name.__bindgen_anon_1.hash_len)
                .read_volatile();
            number =
                number.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name ^ dentry as u64;
            let above = (&raw const (*dentry).d_parent).read_volatile().cast_const();
            if above == dentry {
                break;
            }
            dentry = above;
        }
    }
    number
}
