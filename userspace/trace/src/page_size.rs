// SPDX-License-Identifier: GPL-2.0-only

//! How large the pages of a machine are.

use std::fmt;

/// Size of the pages of the machine that a trace is of: 4 KiB, 16 KiB and 64 KiB on arm64, 4 KiB on x86-64. Its text, in a
/// trace's metadata, is the number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    shift: u32,
}

/// 4 KiB, as of all traces that do not tell.
impl Default for PageSize {
    fn default() -> Self {
        Self { shift: 12 }
    }
}

impl PageSize {
    /// All that there are: the powers of two from 4 KiB to 64 KiB.
    const SHIFTS: std::ops::RangeInclusive<u32> = 12..=16;

    /// A size of so many bytes; `None` if no pages have it: it must be a power of two from 4,096 to 65,536.
    pub const fn of_bytes(bytes: u64) -> Option<Self> {
        let shift = bytes.trailing_zeros();
        if bytes.is_power_of_two() && shift >= *Self::SHIFTS.start() && shift <= *Self::SHIFTS.end()
        {
            Some(Self { shift })
        } else {
            None
        }
    }

    /// Reads the text; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of_bytes(text.parse().ok()?)
    }

    /// Bytes of a page: 4,096 to 65,536.
    pub const fn bytes(self) -> u64 {
        1 << self.shift
    }

    /// Bits of an address within a page: 12 to 16.
    pub const fn shift(self) -> u32 {
        self.shift
    }

    /// The number of the page that an address is in.
    pub const fn page_of(self, address: u64) -> u64 {
        address >> self.shift
    }

    /// The first address, or offset in a file, of the page that one is in.
    pub const fn start_of(self, address: u64) -> u64 {
        address >> self.shift << self.shift
    }

    /// Pages of a transparent huge page: as many as a page has entries of a page table, of 8 bytes each (`HPAGE_PMD_NR`).
    /// 512 to 8,192.
    pub const fn of_huge_page(self) -> u64 {
        self.bytes() / 8
    }

    /// Bytes of a transparent huge page: 2 MiB where pages have 4 KiB, 32 MiB where they have 16, 512 MiB where they have 64.
    pub const fn huge_bytes(self) -> u64 {
        self.of_huge_page() << self.shift
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_what_is_none() {
        for (bytes, shift, huge) in [
            (4 << 10, 12, 2 << 20),
            (16 << 10, 14, 32 << 20),
            (64 << 10, 16, 512 << 20),
        ] {
            let size = PageSize::of_bytes(bytes).unwrap();
            assert_eq!((size.bytes(), size.shift()), (bytes, shift));
            assert_eq!(size.huge_bytes(), huge);
            assert_eq!(size.of_huge_page() * bytes, huge);
            assert_eq!(PageSize::parse(&size.to_string()), Some(size));
            let address = 7 * bytes + 5;
            assert_eq!(
                (size.page_of(address), size.start_of(address)),
                (7, 7 * bytes)
            );
        }
        assert_eq!(PageSize::default().bytes(), 4096);
        for bytes in [0, 1, 2048, 4097, 12 << 10, 128 << 10, 1 << 63, u64::MAX] {
            assert_eq!(PageSize::of_bytes(bytes), None, "{bytes}");
        }
        for text in ["", "4K", "-4096", "4096 ", "0x1000", "18446744073709555712"] {
            assert_eq!(PageSize::parse(text), None, "{text}");
        }
    }
}
