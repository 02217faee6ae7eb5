// SPDX-License-Identifier: GPL-2.0-only

//! The page tables of x86-64, walked as the MMU does it, and how the kernel uses the bits of their entries.

use core::{
    arch::asm,
    cell::UnsafeCell,
    mem::{offset_of, size_of},
    ptr::null,
};
use kernel::bindings;

use crate::uapi::fault_flag;

#[path = "../translated.rs"]
mod translated;
pub(crate) use translated::{entry_at, last_table, page_of, LastTable};

const PRESENT: u64 = 1 << bindings::_PAGE_BIT_PRESENT;
const HUGE: u64 = 1 << bindings::_PAGE_BIT_PSE;
const PROTNONE: u64 = 1 << bindings::_PAGE_BIT_PROTNONE;
/// Bits that some CPUs set in entries that are empty (`_PAGE_KNL_ERRATUM_MASK`).
const ERRATUM: u64 = 1 << bindings::_PAGE_BIT_ACCESSED | 1 << bindings::_PAGE_BIT_DIRTY;
/// `_PAGE_BIT_SPECIAL`.
const SPECIAL: u64 = 1 << bindings::_PAGE_BIT_SOFTW1;
/// `_PAGE_BIT_UFFD` (once `_PAGE_BIT_UFFD_WP`), of an entry that is present or `PROTNONE`.
const UFFD_MARK: u64 = 1 << bindings::_PAGE_BIT_SOFTW2;
const PAGE_MASK: u64 = !0xfff;
/// In place of an entry that is empty while another CPU holds the lock of its table, and may be about to fill it.
/// No entry of the kernel's is this: one in swap format has bits of its type or of its inverted offset set.
const CHANGING: u64 = 1 << bindings::_PAGE_BIT_RW;
/// The bits of an entry that are the physical address of the next table. Constant after [`init`].
static FRAME_MASK: Constant = Constant(UnsafeCell::new(0));

/// A word that does not change once it is used.
struct Constant(UnsafeCell<u64>);

// SAFETY: See its description.
unsafe impl Sync for Constant {}

/// Prepares the walk.
///
/// # Safety
///
/// To be called once, before anything else of this file.
pub(crate) unsafe fn init() {
    // SAFETY: `physical_mask` is constant after boot.
    #[cfg(CONFIG_DYNAMIC_PHYSICAL_MASK)]
    let mask = unsafe { bindings::physical_mask };
    // `__PHYSICAL_MASK` of a kernel that knows no encrypted memory.
    #[cfg(not(CONFIG_DYNAMIC_PHYSICAL_MASK))]
    let mask = (1 << 52) - 1;
    // SAFETY: Nobody reads `FRAME_MASK` yet.
    unsafe { *FRAME_MASK.0.get() = mask & PAGE_MASK };
}

/// In [`walk`]: replaces the table in `{entry}` by its entry for `{address}`, at the level whose index
/// begins at that bit plus 3: the offset of an entry is eight times its index.
macro_rules! look_up {
    ($shift:literal) => {
        concat!(
            "mov {offset}, {address}\n",
            "shr {offset}, ",
            $shift,
            "\nand {offset:e}, 511 * 8\n",
            "mov {entry}, [{entry} + {offset}]",
        )
    };
}

/// In [`walk`]: replaces the entry by the table that it refers to.
macro_rules! follow {
    () => {
        "and {entry}, [rip + {frame_mask}]\nadd {entry}, [rip + {direct_map}]"
    };
}

/// In [`walk`]: as [`follow`], with the lock of the table in `{lock}` of the memory at `{offset}`: `pte_lockptr` of
/// `include/linux/mm.h`. Of each page frame there is a `struct page` at `vmemmap_base`, which is the `struct ptdesc`
/// of a table.
macro_rules! follow_to_last {
    () => {
        concat!(
            "and {entry}, [rip + {frame_mask}]\n",
            "mov {offset}, {entry}\n",
            "shr {offset}, {page_shift} - {descriptor_shift}\n",
            "add {offset}, [rip + {memory_map}]\n",
            "add {entry}, [rip + {direct_map}]",
        )
    };
}

/// Where `struct ptdesc` has the lock of its table, or a pointer to it.
const LOCK: usize = offset_of!(bindings::ptdesc, __bindgen_anon_3);
const DESCRIPTOR_SHIFT: u32 = size_of::<bindings::page>().trailing_zeros();
const _: () = assert!(size_of::<bindings::page>() == 1 << DESCRIPTOR_SHIFT);

/// Where a lock has what is 0 while nobody holds it.
#[cfg(not(CONFIG_PREEMPT_RT))]
const OWNER: usize = 0;
/// A lock begins with the mutex that it is (`include/linux/spinlock_types.h`).
#[cfg(CONFIG_PREEMPT_RT)]
const OWNER: usize = offset_of!(bindings::rt_mutex_base, owner);

/// In [`walk`], after [`follow_to_last`]: compares the lock with 0, which it is while nobody holds it. It is one word,
/// whose first 32 bits are those of `queued_spin_is_locked`.
#[cfg(not(any(CONFIG_PREEMPT_RT, CONFIG_DEBUG_SPINLOCK, CONFIG_DEBUG_LOCK_ALLOC)))]
macro_rules! compare_lock {
    () => {
        "cmp dword ptr [{offset} + {lock} + {owner}], 0"
    };
}
/// Where a lock is longer than a word, the kernel keeps it elsewhere (`ALLOC_SPLIT_PTLOCKS`).
#[cfg(all(
    not(CONFIG_PREEMPT_RT),
    any(CONFIG_DEBUG_SPINLOCK, CONFIG_DEBUG_LOCK_ALLOC)
))]
macro_rules! compare_lock {
    () => {
        "mov {offset}, [{offset} + {lock}]\ncmp dword ptr [{offset} + {owner}], 0"
    };
}
/// Under PREEMPT_RT it is a mutex (`struct rt_mutex_base`), which has an owner.
#[cfg(CONFIG_PREEMPT_RT)]
macro_rules! compare_lock {
    () => {
        "mov {offset}, [{offset} + {lock}]\ncmp qword ptr [{offset} + {owner}], 0"
    };
}

/// Walks the page tables of `$mm` for `$address`. `{entry}` is then the entry at which the walk ends: of the
/// last level, of a huge page, or one that is not present. The code of `$tail` makes the result of it. Above the
/// levels of huge pages, one that is not present says nothing: the result is 0, without that code.
///
/// To be used where [`entry`] may be called.
///
/// The tables above the last level cannot be freed while the mapping is locked; the kernel's own walk right
/// after this (`__handle_mm_fault`) relies on the same. A last-level table can be taken out at any time, but
/// is freed after an RCU grace period, which preemption being disabled holds off. All of them lie in the
/// direct map at `page_offset_base`. The variables read are constant after boot. The entries may be changed
/// by the MMU and by other CPUs: each is read once.
///
/// By hand, with the variables as operands in memory, it takes two registers, and a plain fault none that must
/// be saved; the compiler takes five, and 12 instructions more.
macro_rules! walk {
    ($mm:expr, $address:expr $(, $tail:literal)*) => {{
        // `mm` is alive.
        let mut entry = (*$mm).__bindgen_anon_1.pgd as u64;
        asm!(
            "cmp dword ptr [rip + {pgdir_shift}], 48",
            "jne 2f",
            look_up!("45"),
            "test {entry:e}, {present}",
            "jz 6f",
            follow!(),
            "jmp 2f",
            // Here, where the way from four levels does not pass.
            "4:",
            "xor {entry}, {present}",
            "jmp 7f",
            "6:",
            "xor {entry:e}, {entry:e}",
            "jmp 8f",
            "5:",
            look_up!("9"),
            "test {entry}, {entry}",
            "jnz 7f",
            "mov {entry:e}, {changing}",
            "jmp 7f",
            "2:",
            look_up!("36"),
            "test {entry:e}, {present}",
            "jz 6b",
            follow!(),
            look_up!("27"),
            // Now present and not huge is both bits clear.
            "xor {entry}, {present}",
            "test {entry:e}, {present} + {huge}",
            "jnz 4b",
            follow!(),
            look_up!("18"),
            "xor {entry}, {present}",
            "test {entry:e}, {present} + {huge}",
            "jnz 4b",
            follow_to_last!(),
            compare_lock!(),
            "jne 5b",
            look_up!("9"),
            "7:",
            $($tail,)*
            "8:",
            entry = inout(reg) entry,
            offset = out(reg) _,
            address = in(reg) $address,
            pgdir_shift = sym bindings::pgdir_shift,
            frame_mask = sym FRAME_MASK,
            direct_map = sym bindings::page_offset_base,
            memory_map = sym bindings::vmemmap_base,
            page_shift = const bindings::PAGE_SHIFT,
            descriptor_shift = const DESCRIPTOR_SHIFT,
            lock = const LOCK,
            owner = const OWNER,
            present = const PRESENT,
            huge = const HUGE,
            changing = const CHANGING,
            options(nostack, readonly),
        );
        entry
    }};
}

/// The entry at which a walk for an address ends; 0 where there is none.
///
/// The error code of the hardware is gone when `handle_mm_fault` is entered (`idtentry_body` in
/// `arch/x86/entry/entry_64.S` takes it off the stack), so this walks the tables as the MMU did. It is
/// a snapshot: another thread may have mapped the page since the access. Written out level by level,
/// which costs half as much as a loop.
///
/// # Safety
///
/// To be called with preemption disabled, for an address inside a mapping of `mm` that is locked
/// against unmapping (as it is at the entry of `handle_mm_fault`) and not of hugetlbfs, whose tables may
/// be shared and unshared under other locks.
#[inline(always)]
pub(crate) unsafe fn entry(mm: *const bindings::mm_struct, address: u64) -> Entry {
    // SAFETY: By the contract.
    Entry(unsafe { walk!(mm, address) })
}

/// Entries of a table.
pub(crate) const ENTRIES: usize = bindings::PTRS_PER_PTE as usize;

/// Where a walk ends: at an entry of the last level, of a huge page, or one that is not present.
struct End {
    table: *const u64,
    /// The size of what an entry of that table translates, as a power of two.
    shift: u32,
    entry: u64,
}

/// As [`entry`], by the compiler: where it is told at which level the walk has ended.
///
/// # Safety
///
/// As [`entry`].
#[inline(always)]
unsafe fn walk_to_end(mm: *const bindings::mm_struct, address: u64) -> End {
    // SAFETY: By the contract the memory is alive; the variables are constant after boot.
    let (mut table, mut shift, direct_map, frame_mask) = unsafe {
        (
            (*mm).__bindgen_anon_1.pgd as u64,
            bindings::pgdir_shift,
            bindings::page_offset_base as u64,
            *FRAME_MASK.0.get(),
        )
    };
    // One for each level.
    for _ in 0..5 {
        let index = address.wrapping_shr(shift) & 511;
        // SAFETY: The table is one page, and its entries may change at any time.
        let entry = unsafe {
            (table as *const u64)
                .wrapping_add(index as usize)
                .read_volatile()
        };
        if entry & PRESENT == 0 || shift == bindings::PAGE_SHIFT || entry & HUGE != 0 {
            return End {
                table: table as *const u64,
                shift,
                entry,
            };
        }
        table = direct_map.wrapping_add(entry & frame_mask);
        shift = shift.wrapping_sub(9);
    }
    End {
        table: null(),
        shift: 0,
        entry: 0,
    }
}

/// The `struct page` of what an entry translates that is present; of a huge page, that of its first one.
#[inline(always)]
fn page_in(entry: u64, shift: u32) -> Option<*const bindings::page> {
    // SAFETY: Both are constant after boot.
    let (memory_map, frame_mask) = unsafe { (bindings::vmemmap_base, *FRAME_MASK.0.get()) };
    // Of a huge page, bits below its size say other things.
    let start = (entry & frame_mask).wrapping_shr(shift).wrapping_shl(shift);
    let number = (start >> bindings::PAGE_SHIFT) as usize;
    let page = memory_map.wrapping_add(number.wrapping_mul(size_of::<bindings::page>()));
    // A special entry has no page that is counted: the page of zeros, or memory of a device.
    (entry & SPECIAL == 0).then_some(page as *const bindings::page)
}

/// What the page tables say of an address, where it is plain: [`fault_flag::PRESENT`], or 0 for an entry that
/// is empty. `None` for all others.
///
/// # Safety
///
/// As [`entry`].
#[inline(always)]
pub(crate) unsafe fn plain_entry(mm: *const bindings::mm_struct, address: u64) -> Option<u64> {
    // SAFETY: By the contract. 0 where the entry is empty, 2 where it is present, else 1.
    let found = unsafe {
        walk!(
            mm,
            address,
            "test {entry}, {entry}",
            "jz 8f",
            "and {entry:e}, {present}",
            "inc {entry:e}"
        )
    };
    if found == 1 {
        rarely();
        return None;
    }
    Some(found)
}

const _: () = assert!(PRESENT + 1 == fault_flag::PRESENT);

/// Lets the compiler branch to what comes behind a call of this, rather than compute its condition along with
/// others, for which a plain fault would have to save a register.
#[cold]
#[inline(always)]
fn rarely() {}

/// An entry of a page table as [`entry`] has found it.
#[derive(Clone, Copy)]
pub(crate) struct Entry(u64);

impl Entry {
    /// Nothing was there.
    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The MMU translates by it.
    #[inline(always)]
    pub(crate) fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Empty while another CPU holds the lock of its table, and may be about to fill it.
    #[inline(always)]
    pub(crate) fn is_changing(self) -> bool {
        self.0 == CHANGING
    }

    /// There is a page, whether or not one may access it: `pte_present`.
    #[inline(always)]
    pub(crate) fn has_page(self) -> bool {
        self.0 & (PRESENT | PROTNONE) != 0
    }

    /// There is a page, but nobody may access it: `pte_protnone`.
    pub(crate) fn is_withheld(self) -> bool {
        self.0 & (PRESENT | PROTNONE) == PROTNONE
    }

    /// A huge page that is being split or changed, which `pmd_present` takes for present. In swap format the bit is
    /// never set.
    pub(crate) fn is_huge_in_between(self) -> bool {
        self.0 & (PRESENT | PROTNONE | HUGE) == HUGE
    }

    /// It says neither that there is a page, nor where it is: `pte_none`.
    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        self.0 & !ERRATUM == 0
    }

    /// Marked by userfaultfd. Of an entry that is present or withheld.
    pub(crate) fn is_marked_by_uffd(self) -> bool {
        self.0 & UFFD_MARK != 0
    }

    /// Of an entry in swap format: its type, and its offset as far as it tells markers apart (`__swp_type` and
    /// `__swp_offset` of `arch/x86/include/asm/pgtable_64.h`; the offset is stored inverted, between the type and the
    /// bits that a present entry has).
    pub(crate) fn swap(self) -> (u64, u64) {
        (
            self.0 >> (64 - bindings::SWP_TYPE_BITS),
            !self.0 << bindings::SWP_TYPE_BITS >> bindings::SWP_OFFSET_SHIFT,
        )
    }
}
