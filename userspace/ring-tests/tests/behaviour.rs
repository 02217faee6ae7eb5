// SPDX-License-Identifier: GPL-2.0-only

//! What the ring does, step by step, in one thread.

#![cfg(not(loom))]

use fault_tracer_uapi as uapi;
use ring_tests::ring::{Pushed, Ring, SLOT_WORDS};
use ring_tests::{numbers, take, Memory, SLOT};
use std::sync::atomic::Ordering::Relaxed;

const DISCARD: bool = false;
const OVERWRITE: bool = true;
const BOTH: [bool; 2] = [DISCARD, OVERWRITE];

/// Pushes records by their numbers; returns how many were written.
fn push(ring: &Ring<'_>, numbers: impl IntoIterator<Item = u64>) -> usize {
    let written = numbers
        .into_iter()
        .map(|number| ring_tests::push(ring, number));
    written.filter(|&written| written).count()
}

/// Takes everything through a buffer of that many slots.
fn take_all(ring: &Ring<'_>, slots: usize) -> Vec<u64> {
    let mut buffer = vec![0; slots * SLOT_WORDS];
    let mut all = Vec::new();
    loop {
        let (_, numbers) = take(ring, &mut buffer);
        if numbers.is_empty() {
            return all;
        }
        all.extend(numbers);
    }
}

/// All faults that wait.
fn pending(ring: &Ring<'_>) -> u64 {
    ring.pending_faults(|| true)
}

/// A record of several slots, for the ring's consumer: its number stands in its first word.
fn long_header(kind: u64, slots: u64) -> u64 {
    kind << uapi::HEADER_TYPE_SHIFT | slots << uapi::HEADER_SLOTS_SHIFT
}

#[test]
fn counting_many_records_can_be_ended() {
    let memory = Memory::new(1 << 17);
    let ring = memory.ring(DISCARD).unwrap();
    assert_eq!(push(&ring, 0..100_000), 100_000);
    assert_eq!(pending(&ring), 100_000);
    let asked = std::cell::Cell::new(0);
    let counted = ring.pending_faults(|| {
        asked.set(asked.get() + 1);
        false
    });
    assert_eq!((asked.get(), counted), (1, (1 << 16) - 1));
    // Few records are counted without a question.
    let memory = Memory::new(4);
    let ring = memory.ring(DISCARD).unwrap();
    push(&ring, 0..3);
    assert_eq!(ring.pending_faults(|| unreachable!()), 3);
}

#[test]
fn returns_take_room_but_the_place_of_no_fault() {
    let end = [long_header(uapi::record_type::RETURN, 1), 0, 0, 0];
    let memory = Memory::new(4);
    let ring = memory.ring(DISCARD).unwrap();
    assert_eq!(push(&ring, 0..3), 3);
    assert_ne!(ring.push_return(end), Pushed::Dropped);
    // Full: a return is counted as missed, and is neither a hit nor a drop.
    assert_eq!(ring.push_return(end), Pushed::Dropped);
    assert_eq!(ring.missed_returns(), 1);
    assert_eq!((ring.hits(), ring.written(), ring.dropped()), (3, 3, 0));
    // A fault that finds the ring full, of returns too, is a drop like any other.
    assert_eq!(push(&ring, 3..4), 0);
    assert_eq!((ring.hits(), ring.dropped()), (4, 1));
    assert_eq!(pending(&ring), 3);
    let mut words = [0; 4 * SLOT_WORDS];
    let batch = ring.copy_out(0, &mut words);
    assert_eq!((batch.words, batch.faults), (4 * SLOT_WORDS, 3));
    assert_eq!(words[3 * SLOT_WORDS..], end);

    // Where the oldest are overwritten, there is always room.
    let memory = Memory::new(4);
    let ring = memory.ring(OVERWRITE).unwrap();
    push(&ring, 0..4);
    assert_ne!(ring.push_return(end), Pushed::Dropped);
    assert_eq!((ring.missed_returns(), pending(&ring)), (0, 3));
}

#[test]
fn sizes_that_are_no_ring_are_refused() {
    for words in [0, 1, 2, 3, 5, 12, 4095] {
        assert!(Memory::of_words(words).ring(DISCARD).is_none(), "{words}");
    }
    for words in [4, 8, 4096] {
        assert!(Memory::of_words(words).ring(DISCARD).is_some(), "{words}");
    }
}

#[test]
fn a_new_ring_is_empty() {
    for overwrite in BOTH {
        let memory = Memory::new(4);
        let ring = memory.ring(overwrite).unwrap();
        assert_eq!(take_all(&ring, 4), []);
        assert_eq!((ring.hits(), ring.written(), ring.dropped()), (0, 0, 0));
        assert_eq!(pending(&ring), 0);
    }
}

#[test]
fn records_come_out_as_they_went_in_around_the_end_again_and_again() {
    for overwrite in BOTH {
        for slots in [1, 2, 8] {
            let memory = Memory::new(slots);
            let ring = memory.ring(overwrite).unwrap();
            let mut next = 0;
            for step in 0..100 {
                let count = 1 + step % slots as u64;
                assert_eq!(push(&ring, next..next + count), count as usize);
                assert_eq!(pending(&ring), count);
                assert_eq!(take_all(&ring, 3), (next..next + count).collect::<Vec<_>>());
                next += count;
            }
            assert_eq!(
                (ring.hits(), ring.written(), ring.dropped()),
                (next, next, 0)
            );
        }
    }
}

#[test]
fn a_full_ring_discards_the_newest_and_counts_them() {
    let memory = Memory::new(4);
    let ring = memory.ring(DISCARD).unwrap();
    assert_eq!(push(&ring, 0..10), 4);
    assert_eq!((ring.hits(), ring.written(), ring.dropped()), (10, 4, 6));
    assert_eq!(pending(&ring), 4);
    let mut buffer = [0; SLOT_WORDS];
    assert_eq!(take(&ring, &mut buffer).1, [0]);
    // One slot is free, and only one.
    assert_eq!(push(&ring, 10..13), 1);
    assert_eq!(take_all(&ring, 4), [1, 2, 3, 10]);
    assert_eq!((ring.hits(), ring.written(), ring.dropped()), (13, 5, 8));
    assert_eq!(
        memory.producer.tail.load(Relaxed),
        0,
        "tail is of no use in this mode"
    );
}

#[test]
fn an_overwriting_ring_keeps_the_newest_and_counts_exactly() {
    let memory = Memory::new(4);
    let ring = memory.ring(OVERWRITE).unwrap();
    assert_eq!(push(&ring, 0..10), 10);
    assert_eq!((ring.hits(), ring.written(), ring.dropped()), (10, 10, 0));
    assert_eq!(pending(&ring), 4);
    assert_eq!(memory.producer.tail.load(Relaxed), 6 * SLOT);
    let mut buffer = [0; 16 * SLOT_WORDS];
    let (batch, numbers) = take(&ring, &mut buffer);
    assert_eq!((batch.start, batch.end()), (6 * SLOT, 10 * SLOT));
    assert_eq!(numbers, [6, 7, 8, 9]);
    assert_eq!(pending(&ring), 0);
    // What is consumed is overwritten at no loss.
    push(&ring, 10..13);
    assert_eq!(take_all(&ring, 1), [10, 11, 12]);
}

#[test]
fn the_consumer_goes_on_at_the_oldest_record_left() {
    let memory = Memory::new(4);
    let ring = memory.ring(OVERWRITE).unwrap();
    push(&ring, 0..4);
    let mut buffer = [0; SLOT_WORDS];
    assert_eq!(take(&ring, &mut buffer).1, [0]);
    push(&ring, 4..6);
    assert_eq!(take_all(&ring, 4), [2, 3, 4, 5]);
}

#[test]
fn copying_takes_nothing_out() {
    for overwrite in BOTH {
        let memory = Memory::new(4);
        let ring = memory.ring(overwrite).unwrap();
        push(&ring, 0..3);
        let mut buffer = [0; 8 * SLOT_WORDS];
        for _ in 0..2 {
            // As when the copy to user space fails: nothing is lost by it.
            let batch = ring.copy_out(ring.position(), &mut buffer);
            assert_eq!(numbers(&buffer[..batch.words]), [0, 1, 2]);
        }
        assert_eq!(take_all(&ring, 8), [0, 1, 2]);
    }
}

#[test]
fn only_whole_records_are_copied() {
    for overwrite in BOTH {
        let memory = Memory::new(4);
        let ring = memory.ring(overwrite).unwrap();
        push(&ring, 0..3);
        for words in 0..SLOT_WORDS {
            let batch = ring.copy_out(0, &mut vec![0; words]);
            assert_eq!((batch.words, batch.faults, batch.end()), (0, 0, 0));
            assert_eq!(pending(&ring), 3);
        }
        let mut buffer = [0; 2 * SLOT_WORDS + 3];
        let (batch, numbers) = take(&ring, &mut buffer);
        assert_eq!((batch.words, numbers), (2 * SLOT_WORDS, vec![0, 1]));
    }
}

#[test]
fn longer_records_are_copied_whole_or_not_at_all() {
    for overwrite in BOTH {
        let memory = Memory::new(8);
        let ring = memory.ring(overwrite).unwrap();
        push(&ring, [0]);
        // Three slots, of which the last two could pass for anything.
        ring.push_fault([long_header(5, 3), 1, 2, 3]);
        ring.push_fault([u64::MAX; SLOT_WORDS]);
        ring.push_fault([0; SLOT_WORDS]);
        push(&ring, [1]);
        let mut buffer = [0; 8 * SLOT_WORDS];
        for (slots, words, faults) in [(1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 4, 1), (5, 5, 2)] {
            let batch = ring.copy_out(0, &mut buffer[..slots * SLOT_WORDS]);
            assert_eq!((batch.words, batch.faults), (words * SLOT_WORDS, faults));
        }
        assert_eq!(pending(&ring), 2);
    }
}

#[test]
fn a_longer_record_is_given_up_as_a_whole() {
    let memory = Memory::new(4);
    let ring = memory.ring(OVERWRITE).unwrap();
    ring.push_fault([long_header(5, 3), 1, 2, 3]);
    ring.push_fault([u64::MAX; SLOT_WORDS]);
    ring.push_fault([0; SLOT_WORDS]);
    push(&ring, 0..2);
    assert_eq!(memory.producer.tail.load(Relaxed), 3 * SLOT);
    assert_eq!(take_all(&ring, 4), [0, 1]);
}

#[test]
fn a_header_of_length_zero_ends_a_copy() {
    let memory = Memory::new(4);
    let ring = memory.ring(DISCARD).unwrap();
    push(&ring, [0]);
    ring.push_fault([long_header(5, 0), 0, 0, 0]);
    push(&ring, [1]);
    let batch = ring.copy_out(0, &mut [0; 4 * SLOT_WORDS]);
    assert_eq!((batch.words, batch.faults), (SLOT_WORDS, 1));
    // Counting what is pending goes on behind it rather than for ever.
    assert_eq!(pending(&ring), 2);
}

/// Positions that no consumer has, or that it should not have.
fn nonsense(head: u64) -> Vec<u64> {
    let mut positions = vec![
        head + SLOT,
        head + 8,
        head + 1,
        head.wrapping_add(1 << 63),
        u64::MAX,
        u64::MAX - 7,
        1,
        7,
        8,
        0,
    ];
    positions.extend((0..12).map(|slots| head.wrapping_sub(slots * SLOT)));
    positions
}

#[test]
fn a_hostile_consumer_position_harms_nothing_else() {
    const SLOTS: u64 = 4;
    for overwrite in BOTH {
        for filled in [0, 1, SLOTS, 3 * SLOTS] {
            for position in nonsense(filled * SLOT) {
                let memory = Memory::new(SLOTS as usize);
                let ring = memory.ring(overwrite).unwrap();
                for number in 0..filled {
                    push(&ring, [number]);
                    if !overwrite {
                        take_all(&ring, 1);
                    }
                }
                memory.consumer.position.store(position, Relaxed);
                let before = ring.hits();
                push(&ring, 100..100 + 3 * SLOTS);
                // The account stays exact, and every copy ends and lies within the ring.
                assert_eq!(ring.hits(), before + 3 * SLOTS);
                assert_eq!(ring.written() + ring.dropped(), ring.hits());
                assert!(pending(&ring) <= SLOTS);
                let mut buffer = [0; 3 * SLOTS as usize * SLOT_WORDS];
                let batch = ring.copy_out(ring.position(), &mut buffer);
                assert!(batch.words <= buffer.len() && batch.words % SLOT_WORDS == 0);
                // And with a position that makes sense again, all is as it should be.
                let head = memory.producer.head.load(Relaxed);
                memory.consumer.position.store(head, Relaxed);
                assert_eq!(pending(&ring), 0);
                assert_eq!(push(&ring, 200..202), 2);
                assert_eq!(take_all(&ring, 4), [200, 201]);
            }
        }
    }
}
