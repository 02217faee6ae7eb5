// SPDX-License-Identifier: GPL-2.0-only

//! What the `kernel` crate has in one kernel series and not, or otherwise, in another. Where the series' C differs, the source asks
//! for an option of the kernel instead, in the place where it matters (`docs/porting.md` lists them).

use core::{borrow::Borrow, ffi::c_int};
use kernel::{bindings, error::Error, types::Opaque};

/// A module parameter's value: `value()` returns a reference on 7.2 and the value itself from 7.3 on.
pub(crate) fn parameter<T: Copy>(value: impl Borrow<T>) -> T {
    *value.borrow()
}

/// `EOPNOTSUPP`, for which the crate has a name from 7.3 on.
pub(crate) fn unsupported() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}

/// `THIS_MODULE` of C: a name at the module's root on 7.2, and one of its type from 7.3 on.
pub(crate) fn this_module() -> *mut bindings::module {
    extern "C" {
        static __this_module: Opaque<[u8; 0]>;
    }
    // SAFETY: The kernel's build system defines it for each module, as a `struct module`, and it lives as long as this
    // code.
    unsafe { __this_module.get().cast() }
}
