// SPDX-License-Identifier: GPL-2.0-only

//! Which faults to record: `--only`, `--range`, `--mapping`, `--every`.

use std::str::FromStr;

use clap::Args;
use fault_tracer_client::uapi::{self, fault_flag, AddressRange, FlagTest};
use fault_tracer_trace::{Access, Fate, ResolvedFault, ANONYMOUS};

/// A selection of the faults.
#[derive(Args, Clone, Debug, Default)]
pub struct SelectionArgs {
    /// Record these faults alone: read, write, exec, file, anon, shared, private, user, gup, present, empty, swap, hugetlb,
    /// major, minor; with + for both, as in write+file; several: --only major,write+file
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub only: Vec<Only>,

    /// Record faults at these addresses alone, in hexadecimal digits: the first, and the one behind the last
    #[arg(long = "range", value_name = "A-B", value_parser = range)]
    pub ranges: Vec<AddressRange>,

    /// The names of the mappings whose faults are recorded.
    #[arg(
        long = "mapping",
        value_name = "NAME",
        help = "Record faults in this mapping alone: a path, or the last part of one, [heap], [stack], [anon] and so on"
    )]
    pub mappings: Vec<String>,

    /// Record each N-th fault on each CPU alone, of those that the other options leave
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub every: Option<u32>,
}

/// What must be true of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only {
    word: String,
    test: FlagTest,
    fate: Option<Fate>,
}

/// What there is to ask of a fault's flags: the name, the bits that are looked at, and what they are.
const FLAGS: [(&str, u64, u64); 13] = {
    use fault_flag as is;
    [
        ("read", is::WRITE | is::INSTRUCTION, 0),
        ("write", is::WRITE, is::WRITE),
        ("exec", is::INSTRUCTION, is::INSTRUCTION),
        ("file", is::FILE, is::FILE),
        ("anon", is::FILE, 0),
        ("shared", is::SHARED, is::SHARED),
        ("private", is::SHARED, 0),
        ("user", is::USER, is::USER),
        ("gup", is::GUP, is::GUP),
        ("present", is::PRESENT, is::PRESENT),
        ("empty", is::PRESENT | is::SWAP_ENTRY, 0),
        ("swap", is::SWAP_ENTRY, is::SWAP_ENTRY),
        ("hugetlb", is::HUGETLB, is::HUGETLB),
    ]
};

const FATES: [(&str, Fate); 2] = [("major", Fate::Major), ("minor", Fate::Minor)];

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut only = Self {
            word: text.to_owned(),
            test: FlagTest::default(),
            fate: None,
        };
        for word in text.split('+') {
            let flags = FLAGS.iter().find(|(name, ..)| *name == word);
            let fate = FATES.iter().find(|(name, _)| *name == word);
            let contradicts = match (flags, fate) {
                (Some(&(_, mask, value)), _) => {
                    let both = only.test.mask & mask;
                    let contradicts = only.test.value & both != value & both;
                    only.test.mask |= mask;
                    only.test.value |= value;
                    contradicts
                }
                (_, Some(&(_, fate))) => only.fate.replace(fate).is_some_and(|old| old != fate),
                _ => {
                    let flags = FLAGS.iter().map(|(name, ..)| *name);
                    let names: Vec<_> = flags.chain(FATES.iter().map(|(name, _)| *name)).collect();
                    return Err(format!("{word:?} is not one of {}", names.join(", ")));
                }
            };
            if contradicts {
                return Err("no fault is all of that".into());
            }
        }
        Ok(only)
    }
}

/// Reads a range of addresses, as `/proc/PID/maps` writes them.
fn range(text: &str) -> Result<AddressRange, String> {
    let number = |digits: &str| {
        let digits = digits.trim();
        u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16)
            .map_err(|_| format!("{digits:?} is no hexadecimal number"))
    };
    let (start, end) = text
        .split_once('-')
        .ok_or("two addresses are needed, with - between them")?;
    let range = AddressRange {
        start: number(start)?,
        end: number(end)?,
    };
    if range.start >= range.end {
        return Err("the second address must be above the first".into());
    }
    Ok(range)
}

impl SelectionArgs {
    /// Whether it asks what becomes of a fault, which the module cannot know when it records it.
    pub fn asks_for_fates(&self) -> bool {
        self.only.iter().any(|only| only.fate.is_some())
    }

    /// What the module is to do of it; `None` if it records all.
    pub fn filter(&self) -> Option<uapi::Filter> {
        let mut filter = uapi::Filter {
            every: self.every.unwrap_or(0),
            ..uapi::Filter::default()
        };
        // What becomes of a fault is asked later.
        if self.only.iter().all(|only| only.test.mask != 0) {
            for (to, from) in filter.tests.iter_mut().zip(&self.only) {
                *to = from.test;
            }
        }
        for (to, from) in filter.ranges.iter_mut().zip(&self.ranges) {
            *to = *from;
        }
        let is_one = filter.every > 1
            || filter.tests[0].mask != 0
            || filter.ranges[0].end != 0
            || !self.mappings.is_empty();
        is_one.then_some(filter)
    }

    /// The names of mappings as the module compares them.
    pub fn mapping_names(&self) -> impl Iterator<Item = &[u8]> {
        self.mappings.iter().map(|name| match name.as_str() {
            ANONYMOUS => &b""[..],
            name => name.as_bytes(),
        })
    }

    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        for (option, count) in [("--only", self.only.len()), ("--range", self.ranges.len())] {
            if count > uapi::FILTER_TESTS {
                return Err(format!(
                    "{option} takes {} at most, and has {count}",
                    uapi::FILTER_TESTS
                ));
            }
        }
        if self.every.is_some() && self.asks_for_fates() {
            return Err(
                "--every is applied before it is known whether a fault is major or minor: leave one of them out"
                    .into(),
            );
        }
        Ok(())
    }

    /// Whether a recorded fault is one of those asked for.
    pub fn admits(&self, fault: &ResolvedFault) -> bool {
        let access = match fault.fault.access {
            Access::Read => 0,
            Access::Write => fault_flag::WRITE,
            Access::Execute => fault_flag::INSTRUCTION,
        };
        let flags = u64::from(fault.fault.flags) | access;
        !self.asks_for_fates()
            || self.only.iter().any(|only| {
                flags & only.test.mask == only.test.value
                    && only.fate.is_none_or(|fate| fate == fault.fate)
            })
    }
}

impl std::fmt::Display for SelectionArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        let words: Vec<_> = self.only.iter().map(|only| only.word.as_str()).collect();
        if !words.is_empty() {
            parts.push(format!("only {}", words.join(", ")));
        }
        let ranges = self.ranges.iter();
        parts.extend(ranges.map(|range| format!("addresses {:#x}-{:#x}", range.start, range.end)));
        parts.extend(self.mappings.iter().map(|name| format!("in {name}")));
        if let Some(every @ 2..) = self.every {
            parts.push(format!("1 of {every}"));
        }
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Only {
        text.parse().unwrap()
    }

    #[test]
    fn words_and_what_they_ask() {
        use fault_flag::{FILE, INSTRUCTION, WRITE};
        assert_eq!(
            only("write+file").test,
            FlagTest {
                mask: WRITE | FILE,
                value: WRITE | FILE
            }
        );
        assert_eq!(
            only("read+anon").test,
            FlagTest {
                mask: WRITE | INSTRUCTION | FILE,
                value: 0
            }
        );
        assert_eq!(only("major+file").fate, Some(Fate::Major));
        for wrong in [
            "",
            "write+",
            "write+read",
            "file+anon",
            "major+minor",
            "WRITE",
            "read+exec",
        ] {
            assert!(!wrong.parse::<Only>().unwrap_err().is_empty(), "{wrong}");
        }
        assert_eq!(
            only("write+write"),
            Only {
                word: "write+write".into(),
                ..only("write")
            }
        );
    }

    #[test]
    fn ranges_as_maps_writes_them() {
        let same = AddressRange {
            start: 0x7f00,
            end: 0x8000,
        };
        assert_eq!(range("7f00-8000"), Ok(same));
        assert_eq!(range("0x7f00-0x8000"), Ok(same));
        for wrong in [
            "7f00",
            "8000-7f00",
            "x-y",
            "1-1",
            "-",
            "1-10000000000000000",
        ] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_module_does_what_it_can() {
        let all = SelectionArgs::default();
        assert!(all.filter().is_none() && all.to_string().is_empty());
        let by_fate = SelectionArgs {
            only: vec![only("major"), only("write")],
            ..SelectionArgs::default()
        };
        // Each fault may be major.
        assert!(by_fate.filter().is_none() && by_fate.asks_for_fates());
        let both = SelectionArgs {
            only: vec![only("major+file")],
            mappings: vec![ANONYMOUS.into(), "[heap]".into()],
            ..SelectionArgs::default()
        };
        assert_eq!(both.filter().unwrap().tests[0].mask, fault_flag::FILE);
        assert_eq!(
            both.mapping_names().collect::<Vec<_>>(),
            [&b""[..], b"[heap]"]
        );
        assert_eq!(both.to_string(), "only major+file; in [anon]; in [heap]");
        let sampled = SelectionArgs {
            every: Some(10),
            ..SelectionArgs::default()
        };
        assert_eq!(
            (sampled.filter().unwrap().every, sampled.to_string()),
            (10, "1 of 10".into())
        );
        let each = SelectionArgs {
            every: Some(1),
            ..SelectionArgs::default()
        };
        assert!(each.filter().is_none() && each.to_string().is_empty());
        assert!(SelectionArgs {
            every: Some(9),
            ..by_fate.clone()
        }
        .check()
        .is_err());
        assert!(SelectionArgs {
            only: vec![only("read"); 9],
            ..by_fate
        }
        .check()
        .is_err());
    }

    #[test]
    fn rows_are_chosen_by_fate_and_flags() {
        let selection = SelectionArgs {
            only: vec![only("major"), only("write+anon")],
            ..SelectionArgs::default()
        };
        let mut fault = ResolvedFault {
            fate: Fate::Minor,
            ..ResolvedFault::default()
        };
        fault.fault.access = Access::Read;
        assert!(!selection.admits(&fault));
        fault.fate = Fate::Major;
        assert!(selection.admits(&fault));
        fault.fate = Fate::Minor;
        fault.fault.access = Access::Write;
        assert!(selection.admits(&fault));
        fault.fault.flags = fault_flag::FILE as u16;
        assert!(!selection.admits(&fault));
    }
}
