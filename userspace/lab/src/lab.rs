// SPDX-License-Identifier: GPL-2.0-only

//! What all ways are given: the files, how much to move, and in which order.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::Write as _,
    path::PathBuf,
};

use anyhow::Result;
use clap::ValueEnum;

/// Bytes of a page, and of the blocks in which data is moved where the order counts.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Bytes that a system call moves at once, where the order does not count.
pub const CHUNK: usize = 64 * 1024;

/// The files, and what is moved.
pub struct Lab {
    /// What is read.
    pub from: PathBuf,
    /// What is written.
    pub to: PathBuf,
    /// How many bytes are moved.
    pub bytes: usize,
    /// In which order.
    pub order: Order,
}

/// The order of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// One after the other.
    Sequential,
    /// Shuffled, the same in each run.
    Random,
    /// Every 16th page, then those behind them, and so on.
    Strided,
}

/// What was moved. The sum is the same for all that read the whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many bytes.
    pub bytes: usize,
    /// Their sum, in words of 8 bytes; 0 where the program does not look at them.
    pub sum: u64,
}

impl Moved {
    /// Takes bytes that were read.
    pub fn read(&mut self, data: &[u8]) {
        self.bytes += data.len();
        self.sum = self.sum.wrapping_add(sum(data));
    }

    /// So many bytes, at which nobody looked.
    pub fn unseen(bytes: usize) -> Self {
        Self { bytes, sum: 0 }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, sum {:016x}", self.bytes, self.sum)
    }
}

/// The sum of data, in words of 8 bytes.
pub fn sum(data: &[u8]) -> u64 {
    let words = data.chunks_exact(8);
    words.fold(0, |sum, word| {
        let word = word.try_into().map_or(0, u64::from_ne_bytes);
        sum.wrapping_add(word)
    })
}

impl Lab {
    /// Makes the file that is read, and has it on the disk.
    pub fn prepare(&self) -> Result<()> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut file = File::create(&self.from)?;
        let mut chunk = vec![0; CHUNK];
        for _ in 0..self.bytes / CHUNK {
            random.fill(&mut chunk);
            file.write_all(&chunk)?;
        }
        Ok(file.sync_all()?)
    }

    /// The file that is read.
    pub fn source(&self) -> Result<File> {
        Ok(File::open(&self.from)?)
    }

    /// The file that is written, empty.
    pub fn target(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(options.open(&self.to)?)
    }

    /// The file that is written, as long as it will be.
    pub fn target_of_full_length(&self) -> Result<File> {
        let file = self.target()?;
        file.set_len(self.bytes as u64)?;
        Ok(file)
    }

    /// Offsets of all pages, in the order asked for.
    pub fn pages(&self) -> Vec<usize> {
        const STRIDE: usize = 16;
        let pages = self.bytes / page_size();
        let mut order: Vec<usize> = match self.order {
            Order::Sequential | Order::Random => (0..pages).collect(),
            Order::Strided => (0..STRIDE)
                .flat_map(|first| (first..pages).step_by(STRIDE))
                .collect(),
        };
        if self.order == Order::Random {
            fastrand::Rng::with_seed(7).shuffle(&mut order);
        }
        order.into_iter().map(|page| page * page_size()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_has_each_page_once() {
        for order in Order::value_variants() {
            let lab = Lab {
                from: "a".into(),
                to: "b".into(),
                bytes: 1 << 20,
                order: *order,
            };
            let mut pages = lab.pages();
            let is_sorted = pages.is_sorted();
            assert_eq!(is_sorted, *order == Order::Sequential);
            pages.sort_unstable();
            let all: Vec<_> = (0..lab.bytes).step_by(page_size()).collect();
            assert_eq!(pages, all);
        }
    }
}
