// SPDX-License-Identifier: GPL-2.0-only

//! `habit`: programs that use memory in a way that deserves advice, and for each one that looks like it and does not.

use std::{ffi::c_void, num::NonZeroUsize, ptr, thread, time::Duration};

use anyhow::{ensure, Context as _, Result};
use clap::{Args, ValueEnum};

use crate::memory::page_size;

#[derive(Args, Clone)]
pub struct Options {
    /// The way
    #[arg(value_enum)]
    habit: Habit,
    /// Pages of the memory
    #[arg(long, default_value = "10240")]
    pages: NonZeroUsize,
    /// How often it is used
    #[arg(long, default_value = "10")]
    passes: NonZeroUsize,
    /// Time between two passes, in milliseconds
    #[arg(long, default_value = "0")]
    pause: u64,
    /// Memory that is mapped, rather than the allocator's
    #[arg(long)]
    mapped: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Habit {
    /// Allocate, write and free the same again and again
    Churn,
    /// Allocate once, write again and again
    Reuse,
    /// Write every page, once
    Whole,
    /// Write every eighth page, once
    Sparse,
    /// Read every page, then write it
    ReadFirst,
    /// Write every page, then read it
    WriteFirst,
    /// Allocate and write without ever freeing
    Leak,
}

/// Memory of the C library's allocator, which the advice is about, or of the system's.
struct Block {
    start: *mut u8,
    pages: usize,
    mapped: bool,
}

impl Block {
    fn new(pages: usize, mapped: bool) -> Result<Self> {
        let bytes = pages.checked_mul(page_size()).context("too many pages")?;
        if mapped {
            // By the C library's function, which another library may stand before.
            // SAFETY: A new mapping, of any size.
            let start = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            ensure!(
                start != libc::MAP_FAILED,
                "there is no memory for {pages} pages"
            );
            let start = start.cast();
            return Ok(Self {
                start,
                pages,
                mapped,
            });
        }
        // SAFETY: An allocation of any size can be asked for.
        let start = unsafe { libc::malloc(bytes) }.cast::<u8>();
        ensure!(!start.is_null(), "there is no memory for {pages} pages");
        Ok(Self {
            start,
            pages,
            mapped,
        })
    }

    fn write(&self, step: usize) {
        for page in (0..self.pages).step_by(step) {
            // SAFETY: The byte lies in the allocation.
            unsafe { self.start.add(page * page_size()).write_volatile(1) };
        }
    }

    fn read(&self) {
        for page in 0..self.pages {
            // SAFETY: The byte lies in the allocation. It may not have been written: whatever is in memory is a byte.
            unsafe { self.start.add(page * page_size()).read_volatile() };
        }
    }

    fn free(self) {
        let start = self.start.cast::<c_void>();
        // SAFETY: `malloc` or `mmap` gave it, and nothing refers to it any more.
        unsafe {
            if self.mapped {
                libc::munmap(start, self.pages * page_size());
            } else {
                libc::free(start);
            }
        };
    }
}

pub fn run(options: &Options) -> Result<()> {
    let pages = options.pages.get();
    let block_of = |pages| Block::new(pages, options.mapped);
    let pass = |body: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        for _ in 0..options.passes.get() {
            body()?;
            thread::sleep(Duration::from_millis(options.pause));
        }
        Ok(())
    };
    match options.habit {
        Habit::Churn => pass(&mut || {
            let block = block_of(pages)?;
            block.write(1);
            block.free();
            Ok(())
        })?,
        Habit::Leak => pass(&mut || {
            block_of(pages)?.write(1);
            Ok(())
        })?,
        Habit::Reuse => {
            let block = block_of(pages)?;
            pass(&mut || {
                block.write(1);
                Ok(())
            })?;
        }
        Habit::Whole => block_of(pages)?.write(1),
        Habit::Sparse => block_of(pages)?.write(8),
        Habit::ReadFirst => {
            let block = block_of(pages)?;
            block.read();
            block.write(1);
        }
        Habit::WriteFirst => {
            let block = block_of(pages)?;
            block.write(1);
            block.read();
        }
    }
    // SAFETY: The call only fills in the structure, for which zeros are a value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        ensure!(
            libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0,
            "getrusage failed"
        );
        usage
    };
    println!(
        "faults {} major {}",
        usage.ru_minflt + usage.ru_majflt,
        usage.ru_majflt
    );
    Ok(())
}
