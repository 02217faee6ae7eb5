// SPDX-License-Identifier: GPL-2.0-only

//! Started with a program by `LD_PRELOAD`, it stands in front of the C library's `mmap` and applies advice to what the
//! program maps. `FAULT_TRACER_PRELOAD` says which:
//!
//! - `populate`: private anonymous memory that may be written gets its pages at once (`MADV_POPULATE_WRITE`);
//! - `huge`: such memory asks for huge pages (`MADV_HUGEPAGE`);
//! - `populate-file`: files that may be read get their pages at once (`MADV_POPULATE_READ`).
//!
//! Whatever the kernel says to the advice, the mapping is as the program wanted it. What the C library maps for itself,
//! such as the memory of its `malloc`, does not come by here. Nor does a program that is linked statically.
//!
//! It allocates nothing and keeps nothing: any thread may come by at any time, also before `main` and in a signal handler.

use core::ffi::{c_char, c_int, c_void, CStr};

/// Smaller mappings are left alone: to populate them saves less than the call costs.
const POPULATE_LEAST: usize = 64 << 10;

/// What is applied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advice {
    Populate,
    Huge,
    PopulateFile,
}

fn wanted() -> Option<Advice> {
    const NAME: *const c_char = c"FAULT_TRACER_PRELOAD".as_ptr();
    // SAFETY: `getenv` reads the environment, which no thread may change while another runs. The value is a C string.
    let value = unsafe {
        let value = libc::getenv(NAME);
        if value.is_null() {
            return None;
        }
        CStr::from_ptr(value)
    };
    match value.to_bytes() {
        b"populate" => Some(Advice::Populate),
        b"huge" => Some(Advice::Huge),
        b"populate-file" => Some(Advice::PopulateFile),
        _ => None,
    }
}

/// Bytes of a huge page: a page of entries of 8 bytes maps it.
fn huge_page_bytes() -> usize {
    // SAFETY: The call reads a constant of the process, in signal handlers, too.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // CAST: it is positive.
    page as usize / 8 * page as usize
}

/// Gives a new mapping the advice that is wanted, if it is for such mappings.
fn advise(start: *mut c_void, length: usize, protection: c_int, flags: c_int) {
    const KIND: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // A stack grows as it is needed, and what is reserved may never be used.
    const NOT: c_int =
        libc::MAP_STACK | libc::MAP_NORESERVE | libc::MAP_GROWSDOWN | libc::MAP_HUGETLB;
    let is_memory =
        flags & (KIND | NOT | libc::MAP_SHARED) == KIND && protection & libc::PROT_WRITE != 0;
    let is_file = flags & (libc::MAP_ANONYMOUS | NOT) == 0 && protection & libc::PROT_READ != 0;
    let advice = match wanted() {
        Some(Advice::Populate) if is_memory && length >= POPULATE_LEAST => {
            libc::MADV_POPULATE_WRITE
        }
        Some(Advice::Huge) if is_memory && length >= huge_page_bytes() => libc::MADV_HUGEPAGE,
        Some(Advice::PopulateFile) if is_file && length >= POPULATE_LEAST => {
            libc::MADV_POPULATE_READ
        }
        _ => return,
    };
    // SAFETY: The range was mapped just now for the caller, who does not have it yet: its content and rights stay as they
    // are. The caller of `mmap` must not see another `errno` than its own.
    unsafe {
        let errno = *libc::__errno_location();
        libc::syscall(libc::SYS_madvise, start, length, advice);
        *libc::__errno_location() = errno;
    }
}

/// `mmap(2)` of the C library.
///
/// # Safety
///
/// As the manual page says: a fixed mapping takes the place of what was there.
#[no_mangle]
pub unsafe extern "C" fn mmap(
    start: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: By the contract.
    let mapped = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            start,
            length,
            protection,
            flags,
            file,
            offset,
        )
    };
    // CAST: an address, or -1 for `MAP_FAILED`.
    let mapped = mapped as *mut c_void;
    if mapped != libc::MAP_FAILED {
        advise(mapped, length, protection, flags);
    }
    mapped
}

/// As [`mmap`]: its name for files of any size.
///
/// # Safety
///
/// As [`mmap`].
#[no_mangle]
pub unsafe extern "C" fn mmap64(
    start: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    // SAFETY: By the contract.
    unsafe { mmap(start, length, protection, flags, file, offset) }
}
