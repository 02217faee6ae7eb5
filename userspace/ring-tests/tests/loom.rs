// SPDX-License-Identifier: GPL-2.0-only

//! The interleavings of the ring's two sides that the memory model allows, for small rings.
//!
//! Each test stands for one of the letters of `uapi/PROTOCOL.md` and fails if one of that letter's
//! accesses is made weaker.
#![cfg(loom)]

use std::sync::Arc;

use fault_tracer_uapi as uapi;
use loom::{cell::UnsafeCell, model::Builder, thread};
use ring_tests::{
    numbers, push, record,
    ring::{Shape, SLOT_WORDS},
    take, Memory,
};

/// Runs all interleavings in which a thread is interrupted at most three times before it waits or ends.
fn explore(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(body);
}

/// (A): whoever sees `head` sees the records before it.
#[test]
fn a_record_is_seen_whole_or_not_at_all() {
    explore(|| {
        let memory = Arc::new(Memory::new(2));
        let producer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                let ring = memory.ring(false).unwrap();
                assert!(push(&ring, 1));
                assert!(push(&ring, 2));
            }
        });
        let ring = memory.ring(false).unwrap();
        let mut buffer = [0; 2 * SLOT_WORDS];
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.extend(take(&ring, &mut buffer).1);
        }
        producer.join().unwrap();
        seen.extend(take(&ring, &mut buffer).1);
        assert_eq!(seen, [1, 2]);
    });
}

/// (B): the producer writes over a record only after the consumer has read it.
///
/// A load that happens after the store it must not see cannot be observed as a wrong value here: loom
/// lets no load see the future. So a cell that is written by both sides, where they read and overwrite
/// the slot, stands for the slot: loom finds two writes that nothing orders.
#[test]
fn a_slot_is_written_again_only_after_it_was_read() {
    explore(|| {
        let memory = Arc::new(Memory::new(1));
        let slot = Arc::new(UnsafeCell::new(()));
        let producer = thread::spawn({
            let (memory, slot) = (Arc::clone(&memory), Arc::clone(&slot));
            move || {
                let ring = memory.ring(false).unwrap();
                assert!(push(&ring, 1));
                let mut written = 1;
                for _ in 0..2 {
                    if push(&ring, 2) {
                        slot.with_mut(|_| ());
                        written += 1;
                        break;
                    }
                }
                written
            }
        });
        let ring = memory.ring(false).unwrap();
        let mut buffer = [0; SLOT_WORDS];
        let mut taken = 0;
        let batch = ring.copy_out(ring.position(), &mut buffer);
        if batch.words != 0 {
            assert_eq!(numbers(&buffer), [1]);
            taken = 1;
            slot.with_mut(|_| ());
            ring.consume(&batch);
        }
        let written = producer.join().unwrap();
        taken += take(&ring, &mut buffer).1.len();
        assert_eq!(taken, written);
    });
}

/// (B) with a reserve: records of tasks and losses go beyond where faults stop, and not beyond what is read.
#[test]
fn tasks_and_losses_find_room_and_tear_nothing() {
    explore(|| {
        let memory = Arc::new(Memory::new(8));
        let shape = Shape {
            overwrite: false,
            watermark_bytes: u64::MAX,
            sideband: true,
            retell: false,
        };
        let task = |number| {
            let mut words = record(number);
            words[0] =
                uapi::record_type::EXIT << uapi::HEADER_TYPE_SHIFT | 1 << uapi::HEADER_SLOTS_SHIFT;
            words
        };
        {
            let ring = memory.ring_of(shape).unwrap();
            for number in 0..6 {
                assert!(push(&ring, number));
            }
            assert!(ring.push_reserved(&task(0)).is_some());
        }
        let producer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                let ring = memory.ring_of(shape).unwrap();
                push(&ring, 6);
                let reported = ring.push_reserved(&task(1)).is_some();
                push(&ring, 7);
                reported
            }
        });
        let ring = memory.ring_of(shape).unwrap();
        let mut words = Vec::new();
        let mut buffer = [0; 8 * SLOT_WORDS];
        let mut take = || {
            let batch = ring.copy_out(ring.position(), &mut buffer[..2 * SLOT_WORDS]);
            words.extend_from_slice(&buffer[..batch.words]);
            ring.consume(&batch);
            batch.words
        };
        take();
        let reported = producer.join().unwrap();
        ring.emit_losses();
        while take() != 0 {}
        let (mut next, mut tasks) = (0, 0);
        for slot in words.chunks(SLOT_WORDS) {
            match uapi::header_type(slot[0]) {
                uapi::record_type::FAULT => {
                    assert_eq!(slot, record(next), "torn or out of order");
                    next += 1;
                }
                uapi::record_type::LOST => {
                    assert_eq!((slot[1], slot[2] + 1), (next, next + slot[3]));
                    next += slot[3];
                }
                _ => {
                    assert_eq!(slot, task(tasks));
                    tasks += 1;
                }
            }
        }
        assert_eq!((next, tasks), (8, 1 + u64::from(reported)));
        assert_eq!(ring.sideband_dropped(), u64::from(!reported));
    });
}

/// (C): what is overwritten while it is copied is not delivered.
#[test]
fn what_is_overwritten_while_it_is_copied_is_left_out() {
    explore(|| {
        let memory = Arc::new(Memory::new(2));
        {
            let ring = memory.ring(true).unwrap();
            push(&ring, 1);
            push(&ring, 2);
        }
        let producer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                let ring = memory.ring(true).unwrap();
                assert!(push(&ring, 3));
                assert!(push(&ring, 4));
            }
        });
        let ring = memory.ring(true).unwrap();
        let mut buffer = [0; 2 * SLOT_WORDS];
        let (_, mut seen) = take(&ring, &mut buffer);
        producer.join().unwrap();
        seen.extend(take(&ring, &mut buffer).1);
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
        assert!(seen.ends_with(&[3, 4]), "the newest are kept: {seen:?}");
        assert_eq!(
            (ring.hits(), ring.written(), ring.pending_faults(|| true)),
            (4, 4, 0)
        );
    });
}

/// (A) and (C) in the smallest ring, which is overwritten by every record.
#[test]
fn the_smallest_ring_delivers_whole_records_only() {
    explore(|| {
        let memory = Arc::new(Memory::new(1));
        let producer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                let ring = memory.ring(true).unwrap();
                for number in 1..=2 {
                    assert!(push(&ring, number));
                }
            }
        });
        let ring = memory.ring(true).unwrap();
        let mut buffer = [0; SLOT_WORDS];
        let (_, mut seen) = take(&ring, &mut buffer);
        producer.join().unwrap();
        seen.extend(take(&ring, &mut buffer).1);
        assert!(seen == [1, 2] || seen == [2], "{seen:?}");
    });
}
