// SPDX-License-Identifier: GPL-2.0-only

//! Compares the structures that the module writes down by hand with the type information (BTF) of the kernel that loads it.
//!
//! `layout.c` compares them with the headers. But a kernel can be built anew under the same name, and some structures are in
//! no header. A kernel without type information is taken at its headers' word.
//!
//! C headers: `include/linux/btf.h`, `include/uapi/linux/btf.h`.

use core::ffi::CStr;
use kernel::prelude::*;

/// A structure, and where the module expects its members, in bytes.
pub(crate) struct Structure {
    pub(crate) name: &'static CStr,
    pub(crate) members: &'static [(&'static str, usize)],
}

/// A [`Structure`] whose members have the names of fields of one of the module's own.
macro_rules! structure {
    ($name:literal, $ours:ty: $($field:ident),+) => {
        $crate::layout::Structure {
            name: $name,
            members: &[$((stringify!($field), core::mem::offset_of!($ours, $field))),+],
        }
    };
}
pub(crate) use structure;

/// Compares structures, and says what is wrong.
///
/// # Errors
///
/// `ENOEXEC` if a member is elsewhere, or not there.
pub(crate) fn compare(structures: &[Structure]) -> Result {
    for structure in structures {
        for &(member, expected) in structure.members {
            let name = structure.name.to_str().unwrap_or("");
            match place(structure.name, member) {
                Place::At(offset) if offset == expected => {}
                Place::Unknown => return Ok(()),
                Place::At(offset) => {
                    pr_err!(
                        "this kernel has {} of struct {} at {}, and the module was built for {}: build it anew for this kernel\n",
                        member,
                        name,
                        offset,
                        expected
                    );
                    return Err(ENOEXEC);
                }
                Place::None => {
                    pr_err!(
                        "this kernel has no {} in its struct {}: see A new series in docs/porting.md\n",
                        member,
                        name
                    );
                    return Err(ENOEXEC);
                }
            }
        }
    }
    Ok(())
}

/// Where a member of a structure is.
#[cfg_attr(not(CONFIG_DEBUG_INFO_BTF), expect(dead_code))]
enum Place {
    /// So many bytes behind the beginning.
    At(usize),
    /// Nowhere: there is no such member, or no such structure.
    None,
    /// The kernel has no type information, or not as it is read here.
    Unknown,
}

#[cfg(not(CONFIG_DEBUG_INFO_BTF))]
fn place(_: &CStr, _: &str) -> Place {
    Place::Unknown
}

#[cfg(CONFIG_DEBUG_INFO_BTF)]
use information::place;

#[cfg(CONFIG_DEBUG_INFO_BTF)]
mod information {
    use super::Place;
    use core::{
        ffi::{c_char, c_int, c_void, CStr},
        mem::{size_of, MaybeUninit},
        ptr::null_mut,
    };
    use kernel::bindings;

    /// `struct btf`: the kernel's own.
    type Btf = c_void;

    /// `BTF_KIND_STRUCT`.
    const STRUCT: u32 = 4;
    /// `BTF_MAGIC`.
    const MAGIC: u16 = 0xeb9f;
    /// `BTF_INFO_VLEN`. Before 7.3 there were fewer bits, and zeros above.
    const MEMBERS_MASK: u32 = 0x00ff_ffff;
    /// `BTF_INFO_KFLAG`: the members' offsets have sizes of bit fields above them.
    const HAS_BIT_FIELDS: u32 = 1 << 31;
    /// `BTF_MEMBER_BIT_OFFSET`.
    const OFFSET_MASK: u32 = 0x00ff_ffff;
    /// Structures and unions without names lie in each other no deeper than this.
    const DEPTH: u32 = 6;
    /// Members are looked at up to this one: no real structure has more.
    const MEMBERS_MOST: u32 = 4096;
    /// No name that is asked for is longer.
    const NAME_BYTES: usize = 64;

    extern "C" {
        fn bpf_find_btf_id(name: *const c_char, kind: u32, btf: *mut *mut Btf) -> c_int;
        fn btf_type_by_id(btf: *const Btf, id: u32) -> *const Head;
    }

    /// `struct btf_type`, behind which the members stand.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Head {
        name: u32,
        info: u32,
        size: u32,
    }

    /// `struct btf_member`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Member {
        name: u32,
        kind: u32,
        offset: u32,
    }

    /// The beginning of `struct btf_header`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Header {
        magic: u16,
        version: u8,
        flags: u8,
        bytes: u32,
        types: u32,
        types_bytes: u32,
        names: u32,
        names_bytes: u32,
    }

    /// Reads the kernel's memory; `None` where there is none.
    ///
    /// # Safety
    ///
    /// All values of a `T` are valid.
    unsafe fn read<T: Copy>(from: *const T) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: The place is ours. What cannot be read is answered with an error.
        let result = unsafe {
            bindings::copy_from_kernel_nofault(
                value.as_mut_ptr().cast(),
                from.cast(),
                size_of::<T>(),
            )
        };
        // SAFETY: It was written as a whole, and all values are valid by the contract.
        (result == 0).then(|| unsafe { value.assume_init() })
    }

    /// The kernel's type information.
    struct Information {
        btf: *const Btf,
        names: *const u8,
        names_bytes: u32,
    }

    impl Information {
        /// Finds where the names are. `struct btf` is known to its own file alone; but it begins with a pointer to the
        /// information as it was built, which begins with a number that tells it.
        fn of(btf: *const Btf) -> Option<Self> {
            // SAFETY: Pointers and integers have no invalid values.
            let (data, header) = unsafe {
                let data = read(btf.cast::<*const u8>())?;
                (data, read(data.cast::<Header>())?)
            };
            let names = header.bytes.checked_add(header.names)?;
            (header.magic == MAGIC).then_some(Self {
                btf,
                names: data.wrapping_add(names as usize),
                names_bytes: header.names_bytes,
            })
        }

        fn is_called(&self, name: u32, expected: &str) -> Option<bool> {
            let length = expected.len();
            let end = (name as usize).checked_add(length)?;
            if length >= NAME_BYTES || end >= self.names_bytes as usize {
                return Some(false);
            }
            let from = self.names.wrapping_add(name as usize);
            for (index, byte) in expected.bytes().chain([0]).enumerate() {
                // SAFETY: Bytes have no invalid values.
                if unsafe { read(from.wrapping_add(index)) }? != byte {
                    return Some(false);
                }
            }
            Some(true)
        }

        /// Where a member of a structure or union is, in bits: `Some(None)` if it has none of that name.
        fn member(&self, structure: *const Head, name: &str, depth: u32) -> Option<Option<u32>> {
            // SAFETY: Integers have no invalid values.
            let head = unsafe { read(structure) }?;
            let first = structure.wrapping_add(1).cast::<Member>();
            for index in 0..(head.info & MEMBERS_MASK).min(MEMBERS_MOST) {
                // SAFETY: Integers have no invalid values.
                let member = unsafe { read(first.wrapping_add(index as usize)) }?;
                let offset = if head.info & HAS_BIT_FIELDS != 0 {
                    member.offset & OFFSET_MASK
                } else {
                    member.offset
                };
                if member.name == 0 {
                    // SAFETY: The information is never freed.
                    let inner = unsafe { btf_type_by_id(self.btf, member.kind) };
                    if depth > 0 && !inner.is_null() {
                        if let Some(within) = self.member(inner, name, depth.wrapping_sub(1))? {
                            return Some(Some(offset.wrapping_add(within)));
                        }
                    }
                } else if self.is_called(member.name, name)? {
                    return Some(Some(offset));
                }
            }
            Some(None)
        }
    }

    pub(super) fn place(structure: &CStr, member: &str) -> Place {
        let mut btf = null_mut::<Btf>();
        // SAFETY: The name ends with a zero. The kernel's information gets one more reference, which is not given back: nothing
        // that is exported does so, and it is there until the machine stops anyway.
        let id = unsafe { bpf_find_btf_id(structure.as_ptr().cast(), STRUCT, &mut btf) };
        let Ok(id @ 1..) = u32::try_from(id) else {
            let is_not_there = id == -(bindings::ENOENT as c_int);
            return if is_not_there {
                Place::None
            } else {
                Place::Unknown
            };
        };
        // SAFETY: The function has told the id, of this very information.
        let found = unsafe { btf_type_by_id(btf, id) };
        let offset = Information::of(btf).and_then(|all| all.member(found, member, DEPTH));
        match offset {
            None => Place::Unknown,
            Some(None) => Place::None,
            Some(Some(bits)) => Place::At(bits as usize / 8),
        }
    }
}
