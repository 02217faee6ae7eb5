// SPDX-License-Identifier: GPL-2.0-only

//! A CPU's ring seen through the device's mapping: a consumer of its own, by `PROTOCOL.md` alone.

use std::{
    io,
    os::fd::AsRawFd,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use fault_tracer_uapi::{self as uapi, record_type};

use crate::{device::Session, guest::page_size};

/// Mapped memory: unmapped when this goes.
pub struct Mapped {
    start: *mut u8,
    length: usize,
}

// SAFETY: What is mapped is accessed as atomic words alone.
unsafe impl Send for Mapped {}
// SAFETY: As above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps a part of the device: `mmap` itself.
    pub fn new(
        session: &Session,
        offset: u64,
        length: usize,
        rights: i32,
        flags: i32,
    ) -> io::Result<Self> {
        // SAFETY: A new mapping at an address of the kernel's choice touches no memory in use.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                rights,
                flags,
                session.as_raw_fd(),
                offset.try_into().expect("an offset is below 2^63"),
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            length,
        })
    }

    /// Its first byte.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Its words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: The mapping is as long as this value, page-aligned, and readable; an atomic load needs
        // no more. Whoever stores has mapped it writable.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length / 8) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours, and nobody refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// The ring of one CPU, mapped.
pub struct Ring {
    consumer: Mapped,
    producer: Mapped,
    data: Mapped,
    position: u64,
    delivered: u64,
}

impl Ring {
    /// Maps a ring: the consumer page writable, the rest read-only.
    pub fn new(session: &Session, cpu: u32) -> io::Result<Self> {
        let info = session.info();
        let base = u64::from(cpu) * info.ring_stride;
        let shared = libc::MAP_SHARED;
        let read_only = |offset: u32, length| {
            Mapped::new(
                session,
                base + u64::from(offset),
                length,
                libc::PROT_READ,
                shared,
            )
        };
        let mut ring = Self {
            consumer: Mapped::new(
                session,
                base + u64::from(info.consumer_offset),
                page_size(),
                libc::PROT_READ | libc::PROT_WRITE,
                shared,
            )?,
            producer: read_only(info.producer_offset, page_size())?,
            data: read_only(info.data_offset, info.ring_bytes as usize)?,
            position: 0,
            delivered: 0,
        };
        ring.position = ring.consumer.words()[0].load(Ordering::Relaxed);
        ring.delivered = ring.consumer.words()[1].load(Ordering::Relaxed);
        Ok(ring)
    }

    /// The consumer page.
    pub fn consumer(&self) -> &[AtomicU64] {
        self.consumer.words()
    }

    /// The producer page.
    pub fn producer(&self) -> &[AtomicU64] {
        self.producer.words()
    }

    /// The records' words.
    pub fn data(&self) -> &[AtomicU64] {
        self.data.words()
    }

    /// Takes out all whole records that there are, in mode *discard*.
    pub fn take(&mut self) -> Vec<u64> {
        // (A)
        let head = self.producer.words()[0].load(Ordering::Acquire);
        let available = head - self.position;
        assert!(
            available <= self.data.length as u64,
            "{available} bytes are said to be in a ring of {}",
            self.data.length
        );
        let data = self.data.words();
        let words: Vec<u64> = (0..available / 8)
            .map(|word| {
                let at = (self.position / 8 + word) as usize % data.len();
                data[at].load(Ordering::Relaxed)
            })
            .collect();
        let mut rest = &words[..];
        while let Some(&header) = rest.first() {
            if uapi::header_type(header) == record_type::FAULT {
                self.delivered += 1;
            }
            let length = uapi::header_slots(header) as usize * uapi::SLOT_BYTES / 8;
            assert!(
                (1..=rest.len()).contains(&length),
                "a record of {length} words, and {} are left",
                rest.len()
            );
            rest = &rest[length..];
        }
        self.position = head;
        let consumer = self.consumer.words();
        consumer[1].store(self.delivered, Ordering::Relaxed);
        // (B)
        consumer[0].store(head, Ordering::Release);
        words
    }
}
