// SPDX-License-Identifier: GPL-2.0-only

//! Rings of which the other side is hostile.

use std::sync::atomic::Ordering::Relaxed;

use fault_tracer_client::{take_from, Records};
use fault_tracer_uapi as uapi;
use ring_tests::{ring::Shape, Memory};

use crate::words_of;

/// A mapped ring: first word its size and mode and the buffer's size, then head, tail, position, delivered
/// and the data.
///
/// # Panics
///
/// If what is taken is no whole records, or more than there is room for.
pub fn mapped_ring(bytes: &[u8]) {
    let words = words_of(bytes);
    let Some((&[shape, head, tail, position, delivered], data)) = words.split_first_chunk() else {
        return;
    };
    // CAST: a few bits.
    let mut ring = vec![0; 4 << (shape & 7)];
    let filled = data.len().min(ring.len());
    ring[..filled].copy_from_slice(&data[..filled]);
    let mut buffer = vec![0; (shape >> 8 & 0x7ff) as usize];
    let overwrite = shape & 8 != 0;
    let pages = ([head, tail], [position, delivered]);
    if let Ok(drained) = take_from(pages, &ring, overwrite, &mut buffer) {
        for record in Records::new(drained.words) {
            let _ = record.expect("whole records were promised");
        }
    }
}

/// The module's ring under records and a consumer page that is written at will: first word its size and
/// mode, then one step for each word, the low bits of which say what happens.
///
/// # Panics
///
/// If the module's own side gets confused: it would take the kernel down.
pub fn consumer_page(bytes: &[u8]) {
    let words = words_of(bytes);
    let Some((&shape, steps)) = words.split_first() else {
        return;
    };
    let memory = Memory::new(1 << (shape & 7));
    let ring = memory.ring_of(Shape {
        overwrite: shape & 8 != 0,
        watermark_bytes: shape >> 8 & 0xfff,
        sideband: shape & 16 != 0,
        retell: shape & 32 != 0,
    });
    let ring = ring.expect("a power of two of slots");
    let mut buffer = [0; 64];
    for &step in steps {
        let value = step >> 3;
        match step & 7 {
            0 | 1 => {
                let _ = ring.push_fault([
                    uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT,
                    value,
                    !value,
                    0,
                ]);
            }
            2 => {
                let slots = 1 + (value & 3);
                let mut record = vec![value; slots as usize * 4];
                record[0] = uapi::record_type::TASK << uapi::HEADER_TYPE_SHIFT
                    | slots << uapi::HEADER_SLOTS_SHIFT;
                let position = ring.push_side(&record);
                assert!(position.is_none_or(|position| ring.still_has(position)));
            }
            3 => memory.consumer.position.store(value << 3, Relaxed),
            4 => {
                let position = ring.position().wrapping_add(value << 5);
                memory.consumer.position.store(position, Relaxed);
            }
            5 => memory.consumer.delivered.store(step, Relaxed),
            6 => {
                let batch = ring.copy_out(ring.position(), &mut buffer);
                assert!(batch.words <= buffer.len());
                ring.consume(&batch);
            }
            _ => {
                let _ = (ring.is_worth_reading(), ring.pending_faults(|| true));
                let _ = (ring.delivered(), ring.hits(), ring.written());
            }
        }
    }
}
