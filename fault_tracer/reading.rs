// SPDX-License-Identifier: GPL-2.0-only

//! How a session's records get out: copied by `drain`, or mapped; and how their reader waits.
//!
//! `map` is called with the caller's `mmap_lock` held, and a drain's copy to user memory may take it: so
//! `map` takes none of a session's locks.

use kernel::{
    bindings,
    mm::virt::VmaNew,
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

use super::{
    process, registry,
    ring::Ring,
    rings::{self, Rings},
    session::{refuse, Refusal, Session},
    uapi,
};

/// `VM_MAYSHARE` of `include/linux/mm.h`: mapped with `MAP_SHARED`.
const VM_MAYSHARE: usize = 1 << 7;

impl Session {
    /// The rings, which there are once it was started.
    fn started(&self) -> Result<&Rings> {
        self.rings().ok_or_else(|| {
            refuse!(
                self,
                Refusal::State,
                EINVAL,
                "the session was not started: there are no rings\n"
            )
        })
    }

    fn no_cpu(&self, cpu: usize) -> Error {
        refuse!(self, Refusal::Buffer, EINVAL, "there is no CPU {}\n", cpu)
    }

    fn ring(&self, cpu: usize) -> Result<&Ring<'_>> {
        let cpu_ring = self.started()?.cpu(cpu).ok_or_else(|| self.no_cpu(cpu))?;
        Ok(cpu_ring.ring())
    }

    /// The account of one CPU.
    pub(crate) fn counters(&self, cpu: u32) -> Result<uapi::CpuCounters> {
        let cpu = cpu as usize;
        // Nobody sees the answer to a process that is being killed.
        self.started()?
            .account(cpu, || !process::is_being_killed())
            .ok_or_else(|| self.no_cpu(cpu))
    }

    /// Copies the oldest records of a CPU to user memory and takes them out of the ring. `answer` tells the caller how many,
    /// each time before they are taken out: what the caller is not told of stays.
    pub(crate) fn drain(
        &self,
        request: &mut uapi::Drain,
        answer: impl Fn(&uapi::Drain) -> Result,
    ) -> Result {
        request.bytes = 0;
        request.gap_slots = 0;
        // Where it cannot be told, nothing is copied.
        answer(request)?;
        if request.length < uapi::SLOT_BYTES as u32 || request.buffer % 8 != 0 {
            return Err(refuse!(
                self,
                Refusal::Buffer,
                EINVAL,
                "a drain needs a buffer of at least {} bytes, aligned to 8 (got {} at {:#x})\n",
                uapi::SLOT_BYTES,
                request.length,
                request.buffer
            ));
        }
        let ring = self.ring(request.cpu as usize)?;
        // One drain at a time: the consumer's side of a ring is one.
        let mut bounce = self.bounce()?;
        let mut writer = UserSlice::new(
            UserPtr::from_addr(request.buffer as usize),
            request.length as usize,
        )
        .writer();
        let mut bytes = 0;
        // What was copied stays delivered, also to a process that is being killed.
        while writer.len() >= uapi::SLOT_BYTES && !process::is_being_killed() {
            let room = bounce.len().min(writer.len() / 8);
            let position = ring.position();
            let batch = ring.copy_out(position, &mut bounce[..room]);
            let gap = batch.start.wrapping_sub(position);
            // There is one gap in an answer, and it is before all records.
            if batch.words == 0 || (gap != 0 && bytes != 0) {
                break;
            }
            let copy = &bounce[..batch.words];
            // SAFETY: Any initialised word is eight initialised bytes.
            let copy = unsafe { core::slice::from_raw_parts(copy.as_ptr().cast(), copy.len() * 8) };
            let told = writer.write_slice(copy).and_then(|()| {
                let bytes = bytes + copy.len();
                if gap != 0 {
                    request.gap_slots =
                        u32::try_from(gap / uapi::SLOT_BYTES as u64).unwrap_or(u32::MAX);
                }
                request.bytes = bytes as u32;
                answer(request)
            });
            if let Err(error) = told {
                // What was copied before stays delivered; what failed stays in the ring.
                if bytes == 0 {
                    return Err(refuse!(
                        self,
                        Refusal::Buffer,
                        error,
                        "a drain's buffer cannot be written: {} bytes at {:#x}\n",
                        request.length,
                        request.buffer
                    ));
                }
                break;
            }
            ring.consume(&batch);
            bytes += copy.len();
        }
        Ok(())
    }

    /// Maps pages of one CPU's ring: the consumer page alone with any rights, everything else read-only.
    pub(crate) fn map(&self, vma: &VmaNew, offset: usize) -> Result {
        let rings = self.started()?;
        let length = vma.end() - vma.start();
        let stride = rings.shape().stride();
        let (cpu, start) = (offset / stride, offset % stride);
        let cpu_ring = rings
            .cpu(cpu)
            .filter(|_| length <= stride - start)
            .ok_or_else(|| {
                refuse!(
                    self,
                    Refusal::Map,
                    EINVAL,
                    "a mapping must lie within one CPU's ring (got {} bytes at {:#x})\n",
                    length,
                    offset
                )
            })?;
        if vma.flags() & VM_MAYSHARE == 0 {
            return Err(refuse!(
                self,
                Refusal::Map,
                EINVAL,
                "a ring can only be mapped shared\n"
            ));
        }
        if (start, length) != (rings::CONSUMER_OFFSET, PAGE_SIZE) {
            vma.try_clear_maywrite().map_err(|_| {
                refuse!(
                    self,
                    Refusal::Map,
                    EPERM,
                    "only the consumer page can be mapped writable, alone\n"
                )
            })?;
        }
        vma.try_clear_mayexec()?;
        vma.set_dontexpand();
        vma.set_dontdump();
        vma.set_dontcopy();
        let vma = vma.set_mixedmap();
        for page in (0..length).step_by(PAGE_SIZE) {
            let memory = cpu_ring.page(start + page).ok_or(EINVAL)?;
            vma.vm_insert_page(vma.start() + page, &memory)?;
        }
        Ok(())
    }

    /// What a `poll` finds: `EPOLLIN` when a ring holds as much as the watermark, `EPOLLHUP` when no more
    /// can come.
    ///
    /// # Safety
    ///
    /// `file` and `table` are those of a `poll` on a file that is released before the session is dropped.
    pub(crate) unsafe fn poll(
        &self,
        file: *mut bindings::file,
        table: *mut bindings::poll_table,
    ) -> u32 {
        // SAFETY: By this function's contract. Before the look, so that no wake-up comes between.
        unsafe { self.wake().wait(file, table) };
        let Some(rings) = self.rings() else {
            return 0;
        };
        let mut events = 0;
        if self.running().is_none_or(registry::is_over) {
            events |= bindings::POLLHUP;
        }
        if rings.are_worth_reading() {
            events |= bindings::POLLIN | bindings::POLLRDNORM;
        }
        events
    }
}
