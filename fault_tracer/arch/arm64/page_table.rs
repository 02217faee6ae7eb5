// SPDX-License-Identifier: GPL-2.0-only

//! The page tables of arm64, walked as the MMU does it, and how the kernel uses the bits of their entries
//! (`arch/arm64/include/asm/pgtable-hwdef.h`, `pgtable-prot.h`, `pgtable.h`).

use core::{
    arch::asm,
    mem::{offset_of, size_of},
    ptr::null,
    sync::atomic::{fence, AtomicU64, Ordering},
};
use kernel::bindings;

use crate::uapi::fault_flag;

#[path = "../translated.rs"]
mod translated;
pub(crate) use translated::{entry_at, last_table, page_of, LastTable};

const PAGE_SHIFT: u32 = bindings::PAGE_SHIFT;
/// Bits of an address by which a table is indexed: it is a page of 8-byte entries.
const INDEX_BITS: u32 = PAGE_SHIFT - 3;

const VALID: u64 = 1 << 0;
/// Of a valid entry above the last level: it refers to a table, not to a huge page.
const TABLE: u64 = 1 << 1;
/// In place of an entry that is empty while another CPU holds the lock of its table, and may be about to fill it. In swap
/// format the bit is never set, and no other entry has it alone.
const CHANGING: u64 = 1 << 4;
/// `PTE_USER`.
const USER: u64 = 1 << 6;
/// `PTE_PRESENT_INVALID`: the kernel takes an entry that is not valid for present.
const PRESENT_INVALID: u64 = 1 << 11;
/// `PTE_UXN`.
const NOT_EXECUTABLE: u64 = 1 << 54;
/// `PTE_SPECIAL`.
const SPECIAL: u64 = 1 << 56;
/// `PTE_UFFD`, of an entry that is present.
const UFFD_MARK: u64 = 1 << 58;
/// `__SWP_TYPE_SHIFT`, and `__SWP_OFFSET_SHIFT` with `__SWP_OFFSET_BITS`.
const SWAP_TYPE_SHIFT: u32 = 6;
const SWAP_OFFSET_SHIFT: u32 = 12;
const SWAP_OFFSET_MASK: u64 = (1 << 50) - 1;

/// `VA_BITS`, and `VA_BITS_MIN` of `arch/arm64/include/asm/memory.h`.
const VA_BITS: u32 = bindings::VA_BITS;
const VA_BITS_MIN: u32 = if VA_BITS <= 48 {
    VA_BITS
} else if cfg!(CONFIG_ARM64_16K_PAGES) {
    47
} else {
    48
};
/// `PAGE_OFFSET`: where the kernel's own map of all memory begins.
pub(super) const DIRECT_MAP: usize = 0_usize.wrapping_sub(1 << VA_BITS);
/// `VMEMMAP_START`: where the `struct page` of its first page lies, and after it the others'.
pub(super) const MEMORY_MAP: usize = {
    let range = 0_usize
        .wrapping_sub(1 << (VA_BITS_MIN - 1))
        .wrapping_sub(DIRECT_MAP);
    0_usize
        .wrapping_sub(1 << 30)
        .wrapping_sub((range >> PAGE_SHIFT) * size_of::<bindings::page>())
};

/// How the MMU walks the tables of user memory: `TCR_EL1`, which is constant after boot.
fn translation_control() -> u64 {
    let register: u64;
    // SAFETY: Reads a system register.
    unsafe {
        asm!("mrs {}, tcr_el1", out(reg) register, options(nomem, nostack, preserves_flags, pure))
    };
    register
}

/// Bits of a user address (`T0SZ`), as [`init`] has found them: while the kernel puts a CPU to sleep, the register has others.
static USER_BITS: AtomicU64 = AtomicU64::new(0);

/// The first bit by which the first table is indexed. Constant after [`init`].
static FIRST_SHIFT: AtomicU64 = AtomicU64::new(0);

/// Prepares the walk.
///
/// # Safety
///
/// To be called once, before anything else of this file.
pub(crate) unsafe fn init() {
    let bits = 64 - (translation_control() & 0x3f) as u32;
    let levels = bits.saturating_sub(PAGE_SHIFT).div_ceil(INDEX_BITS).max(1);
    USER_BITS.store(bits.into(), Ordering::Relaxed);
    let shift = PAGE_SHIFT + (levels - 1) * INDEX_BITS;
    FIRST_SHIFT.store(shift.into(), Ordering::Relaxed);
}

/// The bits that a user address has.
pub(super) fn user_address_mask() -> u64 {
    // At most 52 bits.
    1_u64
        .wrapping_shl(USER_BITS.load(Ordering::Relaxed) as u32)
        .wrapping_sub(1)
}

/// The physical address in an entry: `__pte_to_phys`.
#[inline(always)]
fn frame_of(entry: u64) -> u64 {
    const LOW: u64 = ((1 << (50 - PAGE_SHIFT)) - 1) << PAGE_SHIFT;
    if cfg!(not(CONFIG_ARM64_PA_BITS_52)) {
        return entry & ((1 << 48) - 1) & !((1 << PAGE_SHIFT) - 1);
    }
    if cfg!(CONFIG_ARM64_64K_PAGES) {
        entry & LOW & ((1 << 48) - 1) | (entry & 0xf << 12) << 36
    } else {
        // Where the MMU has no such format, these two bits are others.
        const FORMAT: u64 = 1 << 59;
        if translation_control() & FORMAT != 0 {
            entry & LOW | (entry & 0x3 << 8) << 42
        } else {
            entry & LOW & ((1 << 48) - 1)
        }
    }
}

/// Where a physical address is in the kernel's own map of all memory, from its beginning on.
#[inline(always)]
fn offset_of_frame(frame: u64) -> usize {
    // SAFETY: Constant after boot.
    let start = unsafe { bindings::memstart_addr } as u64;
    frame.wrapping_sub(start) as usize
}

/// The `struct page` of a page frame.
#[inline(always)]
fn page_at(frame: u64) -> *const bindings::page {
    let number = offset_of_frame(frame) >> PAGE_SHIFT;
    MEMORY_MAP.wrapping_add(number.wrapping_mul(size_of::<bindings::page>())) as *const _
}

/// Whether nobody holds the lock of a table of the last level: `pte_lockptr` of `include/linux/mm.h`.
///
/// # Safety
///
/// `frame` is that of such a table, which is not freed meanwhile.
#[inline(always)]
unsafe fn is_unlocked(frame: u64) -> bool {
    const LOCK: usize = offset_of!(bindings::ptdesc, __bindgen_anon_3);
    // SAFETY: By the contract; a `struct page` of such a table is its `struct ptdesc`. Others may change the lock at any time.
    unsafe {
        let lock = page_at(frame).wrapping_byte_add(LOCK);
        if cfg!(CONFIG_PREEMPT_RT) {
            // A pointer to a lock that begins with a mutex (`ALLOC_SPLIT_PTLOCKS`), which has an owner.
            const OWNER: usize = offset_of!(bindings::rt_mutex_base, owner);
            let lock = lock.cast::<*const u8>().read_volatile();
            lock.wrapping_add(OWNER).cast::<usize>().read_volatile() == 0
        } else if cfg!(any(CONFIG_DEBUG_SPINLOCK, CONFIG_DEBUG_LOCK_ALLOC)) {
            lock.cast::<*const u32>().read_volatile().read_volatile() == 0
        } else {
            lock.cast::<u32>().read_volatile() == 0
        }
    }
}

/// Entries of a table.
pub(crate) const ENTRIES: usize = 1 << INDEX_BITS;

/// Where a walk ends.
struct End {
    table: *const u64,
    entry: u64,
    /// The size of what the entry translates, as a power of two.
    shift: u32,
    /// Somebody held the lock of the table that has it, just before it was read.
    is_locked: bool,
}

/// Walks the page tables for an address, to the entry of the last level, of a huge page, or one that is not valid; `LOCKS`:
/// looks at the last table's lock, too.
///
/// The tables above the last level cannot be freed while the mapping is locked; the kernel's own walk right after this
/// (`__handle_mm_fault`) relies on the same. A table of the last level can be taken out at any time, but is freed after an RCU
/// grace period, which preemption being disabled holds off. The entries may be changed by the MMU and by other CPUs: each is
/// read once.
///
/// # Safety
///
/// As [`entry`].
#[inline(always)]
unsafe fn walk<const LOCKS: bool>(mm: *const bindings::mm_struct, address: u64) -> End {
    // SAFETY: `mm` is alive.
    let mut table = unsafe { (*mm).__bindgen_anon_1.pgd as usize };
    let mut shift = FIRST_SHIFT.load(Ordering::Relaxed) as u32;
    let mut is_locked = false;
    // One turn for each level.
    for _ in 0..5 {
        let index = address.wrapping_shr(shift) as usize & ((1 << INDEX_BITS) - 1);
        // SAFETY: The table is one page, and lies in the kernel's own map of all memory.
        let entry = unsafe { (table as *const u64).wrapping_add(index).read_volatile() };
        let is_table = entry & (VALID | TABLE) == VALID | TABLE;
        if shift <= PAGE_SHIFT || !is_table {
            return End {
                table: table as *const u64,
                entry,
                shift,
                is_locked,
            };
        }
        let frame = frame_of(entry);
        shift = shift.wrapping_sub(INDEX_BITS);
        if LOCKS && shift == PAGE_SHIFT {
            // SAFETY: That of a table of the last level, which stays as said above.
            is_locked = !unsafe { is_unlocked(frame) };
            // The entry is read behind the lock.
            fence(Ordering::Acquire);
        }
        table = DIRECT_MAP.wrapping_add(offset_of_frame(frame));
    }
    End {
        table: null(),
        entry: 0,
        shift,
        is_locked: false,
    }
}

/// The entry at which a walk for an address ends; 0 where there is none.
///
/// # Safety
///
/// To be called with preemption disabled, for an address inside a mapping of `mm` that is locked
/// against unmapping (as it is at the entry of `handle_mm_fault`) and not of hugetlbfs, whose tables may
/// be shared and unshared under other locks.
#[inline(always)]
pub(crate) unsafe fn entry(mm: *const bindings::mm_struct, address: u64) -> Entry {
    // SAFETY: By the contract.
    let end = unsafe { walk::<true>(mm, address) };
    if end.is_locked && end.entry == 0 {
        Entry(CHANGING)
    } else if end.shift > PAGE_SHIFT + 2 * INDEX_BITS {
        // Above the levels of huge pages it says nothing but that there is none.
        Entry(0)
    } else {
        Entry(end.entry)
    }
}

/// What the page tables say of an address, where it is plain: [`fault_flag::PRESENT`], or 0 for an entry that
/// is empty. `None` for all others.
///
/// # Safety
///
/// As [`entry`].
#[inline(always)]
pub(crate) unsafe fn plain_entry(mm: *const bindings::mm_struct, address: u64) -> Option<u64> {
    // SAFETY: By the contract.
    let found = unsafe { entry(mm, address) };
    if found.is_empty() {
        Some(0)
    } else if found.0 & VALID != 0 {
        Some(fault_flag::PRESENT)
    } else {
        None
    }
}

/// The `struct page` of what an entry translates that is valid; of a huge page, that of its first one.
#[inline(always)]
fn page_in(entry: u64, shift: u32) -> Option<*const bindings::page> {
    // Of a huge page, bits below its size say other things.
    let start = frame_of(entry).wrapping_shr(shift).wrapping_shl(shift);
    // A special entry has no page that is counted: the page of zeros, or memory of a device.
    (entry & SPECIAL == 0).then(|| page_at(start))
}

/// As [`walk`], without a look at locks.
///
/// # Safety
///
/// As [`entry`].
#[inline(always)]
unsafe fn walk_to_end(mm: *const bindings::mm_struct, address: u64) -> End {
    // SAFETY: By the contract.
    unsafe { walk::<false>(mm, address) }
}

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
        self.0 & VALID != 0
    }

    /// Empty while another CPU holds the lock of its table, and may be about to fill it.
    #[inline(always)]
    pub(crate) fn is_changing(self) -> bool {
        self.0 == CHANGING
    }

    /// There is a page, whether or not one may access it: `pte_present`.
    #[inline(always)]
    pub(crate) fn has_page(self) -> bool {
        self.0 & (VALID | PRESENT_INVALID) != 0
    }

    /// There is a page, but the MMU does not translate by it: `pte_present_invalid`.
    fn is_invalid(self) -> bool {
        self.0 & (VALID | PRESENT_INVALID) == PRESENT_INVALID
    }

    /// There is a page, but nobody may access it: `pte_protnone`.
    pub(crate) fn is_withheld(self) -> bool {
        self.is_invalid() && self.0 & (USER | NOT_EXECUTABLE) == NOT_EXECUTABLE
    }

    /// A huge page that is being split or changed, which `pmd_present` takes for present.
    pub(crate) fn is_huge_in_between(self) -> bool {
        self.is_invalid() && !self.is_withheld()
    }

    /// It says neither that there is a page, nor where it is: `pte_none`.
    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Marked by userfaultfd. Of an entry that is present or withheld.
    pub(crate) fn is_marked_by_uffd(self) -> bool {
        self.0 & UFFD_MARK != 0
    }

    /// Of an entry in swap format: its type, and its offset.
    pub(crate) fn swap(self) -> (u64, u64) {
        (
            self.0 >> SWAP_TYPE_SHIFT & ((1 << bindings::MAX_SWAPFILES_SHIFT) - 1),
            self.0 >> SWAP_OFFSET_SHIFT & SWAP_OFFSET_MASK,
        )
    }
}
