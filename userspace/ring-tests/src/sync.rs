// SPDX-License-Identifier: GPL-2.0-only

//! Loom's atomics, in such a way that loom explores all that matters.
//!
//! Loom decides where to try another interleaving by the *last* access to each atomic. A thread that
//! loads its own word before it stores it, as both sides of the ring do with their positions, hides by
//! that load what the other side has loaded before, and loom leaves out the interleavings with it. But
//! no thread can tell when the only writer of a word reads it back: such a load is no event of
//! concurrency, and is made here without loom's taking notice.

pub(crate) use loom::sync::atomic::{fence, Ordering};
use loom::thread;

/// Who alone writes a word.
pub(crate) enum Writer {
    /// The thread that has made it.
    Maker,
    /// The other thread. (The maker may write before the other exists.)
    Another,
}

pub struct AtomicU64 {
    word: loom::sync::atomic::AtomicU64,
    maker: thread::ThreadId,
    writer: Writer,
}

impl AtomicU64 {
    pub(crate) fn new(value: u64, writer: Writer) -> Self {
        Self {
            word: loom::sync::atomic::AtomicU64::new(value),
            maker: thread::current().id(),
            writer,
        }
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        let by_maker = thread::current().id() == self.maker;
        if by_maker == matches!(self.writer, Writer::Maker) {
            // SAFETY: Nobody else writes the word, so no store is concurrent with this load.
            unsafe { self.word.unsync_load() }
        } else {
            self.word.load(order)
        }
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.word.store(value, order);
    }
}
