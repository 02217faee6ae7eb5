// SPDX-License-Identifier: GPL-2.0-only

//! Filters: which faults of its targets a session records. All others are counted as passed over.

use kernel::prelude::*;

use super::uapi::{self, entry, AddressRange, FilterMapping, FlagTest, FILTER_TESTS};

/// Which faults are recorded.
#[derive(Default)]
pub(crate) struct Filter {
    tests: [FlagTest; FILTER_TESTS],
    ranges: [AddressRange; FILTER_TESTS],
    every: u32,
    names: KVec<Name>,
}

/// The name of a mapping, and its length.
#[derive(Clone, Copy)]
struct Name {
    bytes: [u8; 256],
    length: usize,
}

/// What stands behind the path of a file that is not in its folder any more.
const DELETED: &[u8] = b" (deleted)";

impl Filter {
    /// Sets all but the names of mappings.
    ///
    /// # Errors
    ///
    /// `EINVAL` and why it makes no sense.
    pub(crate) fn set(&mut self, filter: &uapi::Filter) -> Result<(), (Error, &'static str)> {
        if filter.reserved != 0 {
            return Err((EINVAL, "reserved fields must be zero"));
        }
        for test in &filter.tests {
            if test.mask & !(uapi::FLAGS_MASK | entry::MASK) != 0 {
                return Err((EINVAL, "a fault has no such flags"));
            }
            if test.value & !test.mask != 0 {
                return Err((EINVAL, "a test asks for flags that its mask has not"));
            }
        }
        for range in &filter.ranges {
            if (range.end != 0 && range.start >= range.end) || (range.end == 0 && range.start != 0)
            {
                return Err((EINVAL, "a range of addresses ends before it begins"));
            }
        }
        self.tests = filter.tests;
        self.ranges = filter.ranges;
        self.every = filter.every;
        Ok(())
    }

    /// Adds the name of a mapping.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `ENOSPC` or `ENOMEM`, and why.
    pub(crate) fn add_mapping(
        &mut self,
        mapping: &FilterMapping,
    ) -> Result<(), (Error, &'static str)> {
        let length = mapping.name.iter().position(|&byte| byte == 0);
        let length = length.ok_or((EINVAL, "the name of a mapping is ended by a zero byte"))?;
        if self.names.len() >= uapi::FILTER_MAPPINGS {
            return Err((ENOSPC, "16 mappings are named at most"));
        }
        let name = Name {
            bytes: mapping.name,
            length,
        };
        let pushed = self.names.push(name, GFP_KERNEL);
        pushed.map_err(|_| (ENOMEM, "there is no memory for it"))
    }

    /// The same once more.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn copy(&self) -> Result<Self> {
        let mut names = KVec::new();
        names.extend_from_slice(&self.names, GFP_KERNEL)?;
        Ok(Self {
            tests: self.tests,
            ranges: self.ranges,
            every: self.every,
            names,
        })
    }

    /// Of the faults that it admits, each so manyth is recorded on each CPU; 0 and 1 for all.
    pub(crate) fn every(&self) -> u32 {
        self.every
    }

    /// Whether it asks for the names of mappings.
    pub(crate) fn names_mappings(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whether it admits a fault by the flags, which are in the first word of its record, and by the address.
    pub(crate) fn admits(&self, header: u64, address: u64) -> bool {
        let flags = uapi::flags_of_header(header);
        let [test, ..] = &self.tests;
        let [range, ..] = &self.ranges;
        let mut tests = self.tests.iter().take_while(|test| test.mask != 0);
        let mut ranges = self.ranges.iter().take_while(|range| range.end != 0);
        (test.mask == 0 || tests.any(|test| flags & test.mask == test.value))
            && (range.end == 0 || ranges.any(|range| (range.start..range.end).contains(&address)))
    }

    /// Whether it admits faults in a mapping of this path.
    pub(crate) fn admits_mapping(&self, path: &[u8]) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name.is_of(path))
    }
}

impl Name {
    fn is_of(&self, path: &[u8]) -> bool {
        let name = self.bytes.get(..self.length).unwrap_or(&[]);
        let whole = path.strip_suffix(DELETED).unwrap_or(path);
        let is_path = path.first() == Some(&b'/') || path.starts_with(b".../");
        if name.contains(&b'/') || !is_path {
            return name == whole || name == path;
        }
        let last = whole.rsplit(|&byte| byte == b'/').next();
        !name.is_empty() && last == Some(name)
    }
}
