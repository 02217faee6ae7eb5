// SPDX-License-Identifier: GPL-2.0-only

//! The records in a drained buffer.

use fault_tracer_uapi::{self as uapi, FaultRecord};

const SLOT_WORDS: usize = uapi::SLOT_BYTES / 8;

/// A record whose length makes no sense: what follows it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "damaged record at word {word} of a drained buffer (header {header:#x}): please report this"
)]
pub struct Damaged {
    /// Where in the buffer, in words of 64 bits.
    pub word: usize,
    /// The record's first word.
    pub header: u64,
}

/// Iterates over the fault records of a drained buffer, skipping other records.
///
/// After an `Err` it ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    words: &'a [u64],
    next: usize,
}

impl<'a> Records<'a> {
    /// Reads what [`crate::Session::drain_cpu`] has written.
    pub fn new(words: &'a [u64]) -> Self {
        Self { words, next: 0 }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<FaultRecord, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.words.get(self.next..)?;
            let header = *rest.first()?;
            let words = uapi::header_slots(header) as usize * SLOT_WORDS;
            if words == 0 || words > rest.len() {
                let word = self.next;
                self.next = self.words.len();
                return Some(Err(Damaged { word, header }));
            }
            self.next += words;
            if uapi::header_type(header) == uapi::record_type::FAULT {
                return Some(Ok(FaultRecord::from_words([
                    rest[0], rest[1], rest[2], rest[3],
                ])));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(time: u64) -> [u64; 4] {
        let header =
            7 | 5 << uapi::HEADER_TGID_SHIFT | uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT;
        [header, time, 0x1000, 0x2000]
    }

    fn other(kind: u64, slots: u64) -> Vec<u64> {
        let mut words = vec![u64::MAX; slots as usize * SLOT_WORDS];
        words[0] = kind << uapi::HEADER_TYPE_SHIFT | slots << uapi::HEADER_SLOTS_SHIFT;
        words
    }

    fn times(words: &[u64]) -> Result<Vec<u64>, Damaged> {
        Records::new(words)
            .map(|record| Ok(record?.time_ns))
            .collect()
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(times(&[]), Ok(vec![]));
    }

    #[test]
    fn faults_come_in_order_with_their_fields() {
        let words = [fault(1), fault(2)].concat();
        let records: Vec<_> = Records::new(&words).map(Result::unwrap).collect();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].tid(), records[0].pid()), (7, 5));
        assert_eq!((records[1].time_ns, records[1].address()), (2, 0x1000));
    }

    #[test]
    fn unknown_types_and_padding_are_skipped() {
        let mut words = other(9, 3);
        words.extend(fault(1));
        words.extend(other(uapi::record_type::PAD, 1));
        words.extend(other(15, 2));
        words.extend(fault(2));
        assert_eq!(times(&words), Ok(vec![1, 2]));
    }

    #[test]
    fn a_length_of_zero_or_beyond_the_end_is_damage() {
        let mut words = fault(1).to_vec();
        words.extend(other(3, 1));
        words[4] = 3 << uapi::HEADER_TYPE_SHIFT;
        assert_eq!(
            times(&words),
            Err(Damaged {
                word: 4,
                header: words[4]
            })
        );
        let cut = &other(3, 2)[..SLOT_WORDS];
        assert_eq!(
            times(cut),
            Err(Damaged {
                word: 0,
                header: cut[0]
            })
        );
        let mut records = Records::new(cut);
        assert!(records.next().is_some_and(|record| record.is_err()));
        assert!(records.next().is_none(), "ends after damage");
    }
}
