// SPDX-License-Identifier: GPL-2.0-only

//! Producer and consumer in two threads, as fast as they can.

#![cfg(not(loom))]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use ring_tests::{record, ring::SLOT_WORDS, take, Memory};

const RECORDS: u64 = if cfg!(miri) { 300 } else { 1_000_000 };

/// Every record delivered is whole, they come in order, and the account is exact.
fn race(overwrite: bool, slots: usize, buffer_slots: usize) {
    let memory = Memory::new(slots);
    let ring = memory.ring(overwrite).unwrap();
    let done = AtomicBool::new(false);
    let delivered = thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..RECORDS {
                ring.push_fault(record(number));
                if number % 1024 == 0 {
                    thread::yield_now();
                }
            }
            done.store(true, Ordering::Release);
        });
        let consumer = scope.spawn(|| {
            let mut buffer = vec![0; buffer_slots * SLOT_WORDS];
            let mut next = 0;
            let mut delivered = 0;
            loop {
                let last_round = done.load(Ordering::Acquire);
                let (_, numbers) = take(&ring, &mut buffer);
                for &number in &numbers {
                    assert!(number >= next, "{number} comes after {}", next - 1);
                    next = number + 1;
                }
                delivered += numbers.len() as u64;
                if last_round && numbers.is_empty() {
                    return delivered;
                }
                if numbers.is_empty() {
                    thread::yield_now();
                }
            }
        });
        consumer.join().unwrap()
    });
    assert_eq!(ring.hits(), RECORDS);
    assert_eq!(ring.written() + ring.dropped(), RECORDS);
    assert_eq!(ring.pending_faults(|| true), 0);
    let overwritten = ring.written() - delivered;
    if overwrite {
        assert_eq!(ring.dropped(), 0);
    } else {
        assert_eq!(overwritten, 0);
    }
    assert_eq!(delivered + overwritten + ring.dropped(), RECORDS);
}

#[test]
fn discard() {
    race(false, 64, 16);
}

#[test]
fn discard_in_the_smallest_ring() {
    race(false, 1, 4);
}

#[test]
fn overwrite() {
    race(true, 64, 16);
}

#[test]
fn overwrite_in_a_small_ring() {
    race(true, 4, 8);
}
