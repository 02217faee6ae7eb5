// SPDX-License-Identifier: GPL-2.0-only

//! What of the module knows nothing of the kernel, compiled for the host so that it can be tested there: the ring,
//! and the reader of build ids.
//!
//! `fault_tracer/ring.rs` is included as it is, with `core`'s atomics or, under `--cfg loom`, with loom's:
//!
//! ```text
//! cargo test -p ring-tests
//! cargo +nightly miri test -p ring-tests
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=../build/cargo-loom cargo test -p ring-tests --release --test loom
//! ```

#[path = "../../../fault_tracer/elf.rs"]
pub mod elf;
#[path = "../../../fault_tracer/ring.rs"]
pub mod ring;

use fault_tracer_uapi as uapi;
use ring::{Batch, ConsumerPage, ProducerPage, Pushed, Ring, Shape, SLOT_WORDS};
use sync::AtomicU64;

#[cfg(not(loom))]
mod sync {
    pub(crate) use core::sync::atomic::{fence, AtomicU64, Ordering};
}
#[cfg(loom)]
mod sync;

/// Bytes of a slot, as positions count.
pub const SLOT: u64 = uapi::SLOT_BYTES as u64;

/// A word that the producer alone writes.
fn producers() -> AtomicU64 {
    #[cfg(loom)]
    return AtomicU64::new(0, sync::Writer::Another);
    #[cfg(not(loom))]
    AtomicU64::new(0)
}

/// A word that the consumer alone writes.
fn consumers() -> AtomicU64 {
    #[cfg(loom)]
    return AtomicU64::new(0, sync::Writer::Maker);
    #[cfg(not(loom))]
    AtomicU64::new(0)
}

/// The memory of a ring, zeroed.
///
/// Under loom, the thread that makes it must be the consumer, and another the producer.
pub struct Memory {
    /// The producer's half.
    pub producer: ProducerPage,
    /// The consumer's half.
    pub consumer: ConsumerPage,
    data: Box<[AtomicU64]>,
}

impl Memory {
    /// For that many slots.
    pub fn new(slots: usize) -> Self {
        Self::of_words(slots * SLOT_WORDS)
    }

    /// For that many words.
    pub fn of_words(words: usize) -> Self {
        Self {
            producer: ProducerPage {
                head: producers(),
                tail: producers(),
                hits: producers(),
                written: producers(),
                dropped: producers(),
                consumer_seen: producers(),
                woken: producers(),
                look_at: producers(),
                lost: producers(),
                lost_first_ns: producers(),
                lost_last_ns: producers(),
                sideband_dropped: producers(),
                missed_returns: producers(),
            },
            consumer: ConsumerPage {
                position: consumers(),
                delivered: consumers(),
            },
            data: (0..words).map(|_| producers()).collect(),
        }
    }

    /// A ring of faults alone in this memory; `None` if the memory has no size for one.
    pub fn ring(&self, overwrite: bool) -> Option<Ring<'_>> {
        self.ring_of(Shape {
            overwrite,
            watermark_bytes: u64::MAX,
            sideband: false,
            retell: false,
        })
    }

    /// The ring of that shape in this memory; `None` if the memory has no size for one.
    pub fn ring_of(&self, shape: Shape) -> Option<Ring<'_>> {
        Ring::new(&self.producer, &self.consumer, &self.data, shape)
    }
}

/// Pushes the record of a sequence number; returns whether it was written.
pub fn push(ring: &Ring<'_>, number: u64) -> bool {
    !matches!(
        ring.push_fault(record(number)),
        Pushed::Dropped | Pushed::Full
    )
}

/// The record of a sequence number: each of its words tells it, so that a mixture of two is no record.
pub fn record(number: u64) -> [u64; SLOT_WORDS] {
    let low = number & ((1 << uapi::HEADER_TYPE_SHIFT) - 1);
    [
        low | uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT,
        number,
        !number,
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    ]
}

/// The sequence numbers of the records that a batch holds.
///
/// # Panics
///
/// If one of them is not whole.
pub fn numbers(words: &[u64]) -> Vec<u64> {
    let slots = words.chunks(SLOT_WORDS);
    slots
        .map(|slot| {
            let number = slot[1];
            assert_eq!(slot, record(number), "a record is torn");
            number
        })
        .collect()
}

/// Takes what fits into `buffer` out of the ring, as the module's drain does.
///
/// # Panics
///
/// If a record is not whole, or the batch's count of faults is wrong.
pub fn take(ring: &Ring<'_>, buffer: &mut [u64]) -> (Batch, Vec<u64>) {
    let batch = ring.copy_out(ring.position(), buffer);
    ring.consume(&batch);
    let numbers = numbers(&buffer[..batch.words]);
    assert_eq!(batch.faults, numbers.len() as u64);
    (batch, numbers)
}
