// SPDX-License-Identifier: GPL-2.0-only

//! Records beside the faults, what is emitted losses, and when the reader is woken.

#![cfg(not(loom))]

use fault_tracer_uapi::{self as uapi, record_type};
use proptest::prelude::*;
use ring_tests::ring::{Pushed, Ring, Shape, SLOT_WORDS};
use ring_tests::{push, record, Memory, SLOT};
use std::sync::atomic::Ordering;

const DISCARD: Shape = Shape {
    overwrite: false,
    watermark_bytes: u64::MAX,
    sideband: true,
    retell: false,
};
const OVERWRITE: Shape = Shape {
    overwrite: true,
    ..DISCARD
};

/// A record of type 2 of so many slots; the number stands in each of its other words.
fn side(number: u64, slots: usize) -> Vec<u64> {
    let mut words = vec![number; slots * SLOT_WORDS];
    words[0] = record_type::MAPPING << uapi::HEADER_TYPE_SHIFT
        | (slots as u64) << uapi::HEADER_SLOTS_SHIFT;
    words
}

/// Writes such a record in its place: up to `most` slots, of which it needs so many. Whether there was room for it and
/// the fault that follows.
fn in_place(ring: &Ring<'_>, number: u64, most: usize, slots: usize) -> bool {
    let Some(space) = ring.begin_side(most * SLOT_WORDS) else {
        return false;
    };
    assert_eq!(space.words.len(), most * SLOT_WORDS);
    for (to, word) in space.words.iter().zip(side(number, slots)) {
        to.store(word, Ordering::Relaxed);
    }
    ring.end_side(space, slots * SLOT_WORDS);
    true
}

#[derive(Debug, PartialEq)]
enum Seen {
    Fault(u64),
    Side(u64, usize),
    Lost { count: u64, first: u64, last: u64 },
}

/// Takes what there is, but for the padding.
fn take(ring: &Ring<'_>, slots: usize) -> Vec<Seen> {
    let mut buffer = vec![0; slots * SLOT_WORDS];
    let batch = ring.copy_out(ring.position(), &mut buffer);
    ring.consume(&batch);
    let mut words = &buffer[..batch.words];
    let mut seen = Vec::new();
    let mut faults = 0;
    while let Some(&header) = words.first() {
        let (this, rest) = words.split_at(uapi::header_slots(header) as usize * SLOT_WORDS);
        match uapi::header_type(header) {
            record_type::PAD => {}
            record_type::FAULT => {
                assert_eq!(this, record(this[1]));
                faults += 1;
                seen.push(Seen::Fault(this[1]));
            }
            record_type::LOST => seen.push(Seen::Lost {
                first: this[1],
                last: this[2],
                count: this[3],
            }),
            _ => {
                assert!(this[1..].iter().all(|word| *word == this[1]), "{this:?}");
                seen.push(Seen::Side(this[1], this.len() / SLOT_WORDS));
            }
        }
        words = rest;
    }
    assert_eq!(batch.faults, faults);
    seen
}

#[test]
fn a_record_does_not_wrap_around_the_end() {
    for shape in [DISCARD, OVERWRITE] {
        let memory = Memory::new(8);
        let ring = memory.ring_of(shape).unwrap();
        for number in 0..6 {
            assert!(push(&ring, number));
        }
        assert_eq!(take(&ring, 8).len(), 6);
        // Two slots are left before the end: they are filled up.
        assert_eq!(ring.push_side(&side(7, 3)), Some(8 * SLOT));
        assert!(push(&ring, 8));
        assert_eq!(take(&ring, 8), [Seen::Side(7, 3), Seen::Fault(8)]);
    }
}

#[test]
fn a_record_without_room_is_not_written() {
    let memory = Memory::new(8);
    let ring = memory.ring_of(DISCARD).unwrap();
    // One of the eight slots is the reserve.
    for number in 0..5 {
        push(&ring, number);
    }
    assert_eq!(ring.push_side(&side(1, 3)), None);
    assert!(ring.push_side(&side(1, 2)).is_some());
    assert!(!push(&ring, 5));
    assert_eq!((ring.hits(), ring.written(), ring.dropped()), (6, 5, 1));
    // One that the ring can never hold, not even empty.
    for shape in [DISCARD, OVERWRITE] {
        let memory = Memory::new(4);
        let ring = memory.ring_of(shape).unwrap();
        assert_eq!(ring.push_side(&side(1, 4)), None);
        assert_eq!(take(&ring, 4), []);
    }
}

#[test]
fn a_record_in_its_place_leaves_room_for_its_fault() {
    for shape in [DISCARD, OVERWRITE] {
        let memory = Memory::new(16);
        let ring = memory.ring_of(shape).unwrap();
        for number in 0..11 {
            assert!(push(&ring, number));
        }
        assert_eq!(take(&ring, 16).len(), 11);
        // It might need five slots, and with the fault six, which are not left before the end; it needs two.
        assert!(in_place(&ring, 7, 5, 2));
        assert!(push(&ring, 11));
        assert_eq!(take(&ring, 16), [Seen::Side(7, 2), Seen::Fault(11)]);
        // More than the ring has is refused, and nothing has changed.
        assert!(!in_place(&ring, 8, 16, 1));
        assert_eq!(take(&ring, 16), []);
    }
    let memory = Memory::new(8);
    let ring = memory.ring_of(DISCARD).unwrap();
    for number in 0..4 {
        assert!(push(&ring, number));
    }
    // Three slots are left for faults: not enough for three and the fault.
    assert!(!in_place(&ring, 1, 3, 3));
    assert!(in_place(&ring, 2, 2, 2) && push(&ring, 4));
    assert_eq!(take(&ring, 8).len(), 6);
}

#[test]
fn a_loss_is_reported_before_the_next_record() {
    let memory = Memory::new(4);
    let ring = memory.ring_of(DISCARD).unwrap();
    for number in 0..7 {
        assert_eq!(push(&ring, number), number < 4);
    }
    assert_eq!(take(&ring, 1), [Seen::Fault(0)]);
    // One slot is free, which is not enough for the loss and a fault.
    assert!(!push(&ring, 7));
    assert_eq!(take(&ring, 1), [Seen::Fault(1)]);
    assert!(push(&ring, 8));
    let lost = Seen::Lost {
        count: 4,
        first: 4,
        last: 7,
    };
    assert_eq!(
        take(&ring, 4),
        [Seen::Fault(2), Seen::Fault(3), lost, Seen::Fault(8)]
    );
    // Only once.
    push(&ring, 9);
    assert_eq!(take(&ring, 4), [Seen::Fault(9)]);
}

/// Of 64 slots 8 are the reserve, and the last of them is for a loss.
#[test]
fn where_faults_find_no_room_tasks_find_their_reserve() {
    let memory = Memory::new(64);
    let ring = memory.ring_of(DISCARD).unwrap();
    for number in 0..60 {
        assert_eq!(push(&ring, number), number < 56);
    }
    assert_eq!(ring.push_side(&side(100, 1)), None);
    for number in 0..4 {
        assert!(ring.push_reserved(&side(number, 2)).is_some() == (number < 3));
    }
    assert!(ring.push_reserved(&side(3, 1)).is_some());
    assert!(!push(&ring, 60));
    assert_eq!(ring.push_reserved(&side(4, 1)), None);
    assert_eq!((ring.dropped(), ring.sideband_dropped()), (5, 2));
    ring.emit_losses();
    ring.emit_losses();
    let seen = take(&ring, 64);
    assert_eq!(seen.len(), 61);
    let lost = Seen::Lost {
        count: 5,
        first: 56,
        last: 60,
    };
    assert_eq!(
        seen[56..],
        [
            Seen::Side(0, 2),
            Seen::Side(1, 2),
            Seen::Side(2, 2),
            Seen::Side(3, 1),
            lost
        ]
    );
}

/// A record of a task says nothing of the losses before it; the next fault does, although there has been
/// room for a while.
#[test]
fn a_loss_is_reported_with_the_next_fault_even_behind_a_task() {
    let memory = Memory::new(8);
    let ring = memory.ring_of(DISCARD).unwrap();
    for number in 0..9 {
        assert_eq!(push(&ring, number), number < 7);
    }
    take(&ring, 8);
    assert!(ring.push_reserved(&side(1, 1)).is_some());
    assert!(push(&ring, 9));
    let lost = Seen::Lost {
        count: 2,
        first: 7,
        last: 8,
    };
    assert_eq!(take(&ring, 8), [Seen::Side(1, 1), lost, Seen::Fault(9)]);
}

#[test]
fn a_ring_without_records_of_tasks_has_no_reserve() {
    for (shape, slots) in [
        (
            Shape {
                sideband: false,
                retell: false,
                ..DISCARD
            },
            64,
        ),
        (OVERWRITE, 64),
        (DISCARD, 56),
    ] {
        let memory = Memory::new(64);
        let ring = memory.ring_of(shape).unwrap();
        for number in 0..64 {
            assert_eq!(push(&ring, number), number < slots);
        }
    }
    // It is never more than 64 KiB.
    let memory = Memory::new(1 << 16);
    let ring = memory.ring_of(DISCARD).unwrap();
    for number in 0..1 << 16 {
        assert_eq!(push(&ring, number), number < (1 << 16) - 2048);
    }
}

#[test]
fn a_full_ring_wakes_its_reader_once_whatever_the_watermark() {
    let memory = Memory::new(8);
    let ring = memory
        .ring_of(Shape {
            watermark_bytes: 8 * SLOT,
            sideband: false,
            retell: false,
            ..DISCARD
        })
        .unwrap();
    // A reader out of step: it has taken four before it was woken.
    for number in 0..4 {
        assert_eq!(ring.push_fault(record(number)), Pushed::Written);
    }
    take(&ring, 4);
    let pushed: Vec<Pushed> = (4..15)
        .map(|number| ring.push_fault(record(number)))
        .collect();
    let (written, dropped) = pushed.split_at(8);
    assert_eq!(written[3], Pushed::Crossed);
    assert_eq!(dropped, [Pushed::Full, Pushed::Dropped, Pushed::Dropped]);
    assert!(ring.is_worth_reading());
}

#[test]
fn the_reader_is_woken_after_every_watermark() {
    for overwrite in [false, true] {
        let memory = Memory::new(8);
        let ring = memory
            .ring_of(Shape {
                overwrite,
                watermark_bytes: 3 * SLOT,
                sideband: false,
                retell: false,
            })
            .unwrap();
        let mut crossed = Vec::new();
        for number in 0..10 {
            assert_eq!(ring.is_worth_reading(), number % 8 >= 3, "{number}");
            if number == 7 {
                take(&ring, 8);
            }
            if ring.push_fault(record(number)) == Pushed::Crossed {
                crossed.push(number);
            }
            if number == 7 {
                take(&ring, 8);
            }
        }
        assert_eq!(crossed, [2, 5, 8]);
    }
}

#[test]
fn what_is_overwritten_is_no_longer_there() {
    let memory = Memory::new(4);
    let ring = memory.ring_of(OVERWRITE).unwrap();
    let position = ring.push_side(&side(1, 1)).unwrap();
    for number in 0..3 {
        assert!(ring.still_has(position));
        push(&ring, number);
    }
    assert!(ring.still_has(position));
    push(&ring, 3);
    assert!(!ring.still_has(position));
    let memory = Memory::new(4);
    let ring = memory.ring_of(DISCARD).unwrap();
    let position = ring.push_side(&side(1, 1)).unwrap();
    take(&ring, 4);
    assert!(ring.still_has(position), "nothing is ever overwritten");
}

#[derive(Clone, Debug)]
enum Step {
    Fault,
    Side(usize),
    Reserved(usize),
    /// At most so many slots, of which these are not needed, and a fault behind them.
    InPlace(usize, usize),
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Fault),
        2 => (1..6usize).prop_map(Step::Side),
        2 => (1..4usize).prop_map(Step::Reserved),
        2 => (1..6usize, 0..3usize).prop_map(|(most, unused)| Step::InPlace(most, unused)),
        1 => (1..10usize).prop_map(Step::Take),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever is pushed and taken: nothing comes twice or out of order, every loss is emitted, in its
    /// place, and nothing else is missing.
    #[test]
    fn every_loss_is_reported(steps in steps(), size in 3..6u32) {
        let memory = Memory::new(1 << size);
        let ring = memory.ring_of(DISCARD).unwrap();
        let (mut next, mut expected) = (0, 0);
        let (mut written_side, mut seen_side, mut sideband_dropped) = (0, 0, 0);
        let mut check = |seen: Vec<Seen>, seen_side: &mut u64| -> Result<(), TestCaseError> {
            for record in seen {
                match record {
                    Seen::Fault(number) => {
                        prop_assert_eq!(number, expected);
                        expected += 1;
                    }
                    Seen::Lost { count, first, last } => {
                        prop_assert_eq!(first, expected);
                        prop_assert_eq!(last, expected + count - 1);
                        expected += count;
                    }
                    Seen::Side(number, _) => {
                        prop_assert_eq!(number, *seen_side);
                        *seen_side += 1;
                    }
                }
            }
            Ok(())
        };
        for step in steps {
            match step {
                Step::Fault => {
                    push(&ring, next);
                    next += 1;
                }
                Step::Side(slots) => {
                    if ring.push_side(&side(written_side, slots)).is_some() {
                        written_side += 1;
                    }
                }
                Step::Reserved(slots) => {
                    if ring.push_reserved(&side(written_side, slots)).is_some() {
                        written_side += 1;
                    } else {
                        sideband_dropped += 1;
                    }
                }
                Step::InPlace(most, unused) => {
                    let slots = most.saturating_sub(unused).max(1);
                    if in_place(&ring, written_side, most, slots) {
                        written_side += 1;
                        // What was made room for is there.
                        prop_assert!(push(&ring, next));
                    } else {
                        push(&ring, next);
                    }
                    next += 1;
                }
                Step::Take(slots) => check(take(&ring, slots), &mut seen_side)?,
            }
        }
        // There is always room for what is emitted last.
        ring.emit_losses();
        check(take(&ring, 64), &mut seen_side)?;
        prop_assert_eq!(ring.sideband_dropped(), sideband_dropped);
        prop_assert_eq!(expected, next);
        prop_assert_eq!(seen_side, written_side);
    }
}
