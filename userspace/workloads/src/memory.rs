// SPDX-License-Identifier: GPL-2.0-only

//! Memory whose pages fault one by one, and the accesses to it.

use std::{
    ffi::c_void,
    fs::File,
    io,
    num::NonZeroUsize,
    ops::Range,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::{self, NonNull},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

/// Bytes of a page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Bytes of a huge page that the kernel makes by itself: a page of entries of 8 bytes maps it.
pub fn huge_page_size() -> usize {
    page_size() / 8 * page_size()
}

/// Bytes of a huge page that one reserves: a size that all processors here have, though not each as its own.
pub const RESERVED_PAGE: usize = 2 << 20;

/// The calling thread's id.
pub fn thread_id() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

/// A kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Exec,
}

impl Access {
    /// As the truth tells it.
    pub fn letter(self) -> char {
        match self {
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Exec => 'x',
        }
    }
}

/// `ret`, the only instruction of each page of [`Region::code`].
#[cfg(target_arch = "x86_64")]
const RET: &[u8] = &[0xc3];
#[cfg(target_arch = "aarch64")]
const RET: &[u8] = &0xd65f_03c0_u32.to_le_bytes();

/// What data may be used for.
const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A new anonymous mapping at an address of the kernel's choice.
fn map_fresh(length: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<*mut c_void> {
    // SAFETY: A new mapping at an address of the kernel's choice touches no memory in use.
    Ok(unsafe { mm::mmap_anonymous(ptr::null_mut(), length, protection, flags) }?)
}

/// Mapped memory, `stride` bytes from page to page. It stays mapped until the process ends, so that no
/// address ever means two things.
pub struct Region {
    start: NonNull<u8>,
    pages: usize,
    stride: usize,
    executable: bool,
}

// SAFETY: The memory is mapped for the whole life of the process and accessed by volatile loads and
// stores of single bytes alone, through raw pointers; nothing is built on the values.
unsafe impl Send for Region {}
// SAFETY: As above.
unsafe impl Sync for Region {}

impl Region {
    fn bytes(pages: NonZeroUsize, stride: usize) -> Result<usize> {
        pages
            .get()
            .checked_mul(stride)
            .context("so many pages do not fit in an address space")
    }

    fn at(start: *mut c_void, pages: NonZeroUsize, stride: usize) -> Result<Self> {
        Ok(Self {
            start: NonNull::new(start.cast()).context("the kernel mapped memory at address 0")?,
            pages: pages.get(),
            stride,
            executable: false,
        })
    }

    /// Fresh private memory in pages of the smallest size.
    pub fn anonymous(pages: NonZeroUsize) -> Result<Self> {
        let length = Self::bytes(pages, page_size())?;
        let start =
            map_fresh(length, READ_WRITE, MapFlags::PRIVATE).context("cannot map memory")?;
        let region = Self::at(start, pages, page_size())?;
        region.without_huge_pages()?;
        Ok(region)
    }

    /// Fresh private memory in a mapping that no other adjoins, so that it stays a mapping of its own: an
    /// inaccessible page lies behind it.
    pub fn apart(pages: NonZeroUsize) -> Result<Self> {
        let more = pages.checked_add(1).context("too many pages")?;
        let start = Self::anonymous(more)?.start;
        let guard = start.as_ptr().wrapping_add(pages.get() * page_size());
        // SAFETY: The last page of the mapping just made, which nobody uses.
        unsafe { mm::mprotect(guard.cast(), page_size(), mm::MprotectFlags::empty()) }
            .context("cannot set a guard page")?;
        Self::at(start.as_ptr().cast(), pages, page_size())
    }

    /// Fresh private memory in reserved huge pages of 2 MiB.
    pub fn huge(pages: NonZeroUsize) -> Result<Self> {
        let stride = RESERVED_PAGE;
        let length = Self::bytes(pages, stride)?;
        let start = map_fresh(
            length,
            READ_WRITE,
            MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB,
        )
        .context(
            "cannot map huge pages (are as many of 2 MiB reserved in /sys/kernel/mm/hugepages?)",
        )?;
        Self::at(start, pages, stride)
    }

    /// Fresh private memory in huge pages that the kernel makes by itself.
    pub fn transparent_huge(pages: NonZeroUsize) -> Result<Self> {
        let stride = huge_page_size();
        // One more, to begin at a multiple.
        let more = pages.checked_add(1).context("too many pages")?;
        let length = Self::bytes(more, stride)?;
        let start =
            map_fresh(length, READ_WRITE, MapFlags::PRIVATE).context("cannot map memory")?;
        let start = start.wrapping_byte_add(start.addr().next_multiple_of(stride) - start.addr());
        let region = Self::at(start, pages, stride)?;
        region
            .advise(libc::MADV_HUGEPAGE)
            .context("cannot turn huge pages on")?;
        Ok(region)
    }

    /// The pages of a file, each in a mapping of its own with a hole behind it: the kernel maps the
    /// neighbours of a file's page along with it ("fault-around"), but never beyond its mapping.
    pub fn file(
        file: &File,
        pages: NonZeroUsize,
        protection: ProtFlags,
        sharing: MapFlags,
    ) -> Result<Self> {
        let stride = 2 * page_size();
        let length = Self::bytes(pages, stride)?;
        let start = map_fresh(
            length,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
        .context("cannot reserve addresses")?;
        for page in 0..pages.get() {
            let address = start.cast::<u8>().wrapping_add(page * stride).cast();
            let offset = (page * page_size()) as u64;
            // SAFETY: The address lies in the range reserved above, which nobody else uses.
            unsafe {
                mm::mmap(
                    address,
                    page_size(),
                    protection,
                    sharing | MapFlags::FIXED,
                    file.as_fd(),
                    offset,
                )
            }
            .context("cannot map a page of the file")?;
        }
        Self::at(start, pages, stride)
    }

    /// Fresh memory to share: of a file, from its beginning on, or of none.
    pub fn shared(file: Option<&File>, pages: NonZeroUsize) -> Result<Self> {
        Self::shared_with(file, pages, READ_WRITE)
    }

    /// As [`Region::shared`], with these rights.
    pub fn shared_with(
        file: Option<&File>,
        pages: NonZeroUsize,
        protection: ProtFlags,
    ) -> Result<Self> {
        let length = Self::bytes(pages, page_size())?;
        // SAFETY: A new mapping at an address of the kernel's choice touches no memory in use.
        let start = unsafe {
            match file {
                Some(file) => mm::mmap(
                    ptr::null_mut(),
                    length,
                    protection,
                    MapFlags::SHARED,
                    file.as_fd(),
                    0,
                ),
                None => mm::mmap_anonymous(ptr::null_mut(), length, protection, MapFlags::SHARED),
            }
        }
        .context("cannot map memory to share")?;
        let region = Self::at(start, pages, page_size())?;
        region.without_huge_pages()?;
        Ok(region)
    }

    /// Fresh private memory of `/dev/zero`.
    pub fn dev_zero(pages: NonZeroUsize) -> Result<Self> {
        let length = Self::bytes(pages, page_size())?;
        let zero = File::open("/dev/zero").context("cannot open /dev/zero")?;
        // SAFETY: A new mapping at an address of the kernel's choice touches no memory in use.
        let start = unsafe {
            mm::mmap(
                ptr::null_mut(),
                length,
                READ_WRITE,
                MapFlags::PRIVATE,
                &zero,
                0,
            )
        }
        .context("cannot map /dev/zero")?;
        let region = Self::at(start, pages, page_size())?;
        region.without_huge_pages()?;
        Ok(region)
    }

    /// Fresh memory to share in the way of System V.
    pub fn system_v(pages: NonZeroUsize, read_only: bool) -> Result<Self> {
        let length = Self::bytes(pages, page_size())?;
        let flags = if read_only { libc::SHM_RDONLY } else { 0 };
        // SAFETY: System calls; the address is of the kernel's choice. The segment is removed when it is
        // attached no more.
        let start = unsafe {
            let id = libc::shmget(libc::IPC_PRIVATE, length, 0o600);
            let start = libc::shmat(id, ptr::null(), flags);
            if id == -1 || start as isize == -1 {
                return Err(io::Error::last_os_error()).context("cannot get memory to share");
            }
            libc::shmctl(id, libc::IPC_RMID, ptr::null_mut());
            start
        };
        Self::at(start, pages, page_size())
    }

    /// Code: each page can be called and returns at once.
    pub fn code(pages: NonZeroUsize) -> Result<Self> {
        let memfd = rustix::fs::memfd_create("ft-workload-code", rustix::fs::MemfdFlags::CLOEXEC)
            .context("cannot make a file in memory")?;
        let file = File::from(memfd);
        fill(&file, pages, RET).context("cannot write the code")?;
        let mut region = Self::file(
            &file,
            pages,
            ProtFlags::READ | ProtFlags::EXEC,
            MapFlags::PRIVATE,
        )?;
        region.executable = true;
        Ok(region)
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// All its addresses.
    pub fn range(&self) -> Range<usize> {
        let start = self.start.as_ptr() as usize;
        start..start + self.pages * self.stride
    }

    fn pointer(&self, page: usize) -> *mut u8 {
        assert!(page < self.pages, "page {page} of {}", self.pages);
        self.start.as_ptr().wrapping_add(page * self.stride)
    }

    /// The address of a page at which it is touched.
    pub fn address(&self, page: usize) -> usize {
        self.pointer(page) as usize
    }

    /// Accesses a page.
    pub fn touch(&self, page: usize, access: Access) {
        let pointer = self.pointer(page);
        match access {
            Access::Read => {
                // SAFETY: A byte inside the mapping, readable.
                unsafe { pointer.read_volatile() };
            }
            Access::Write => {
                // SAFETY: A byte inside the mapping; a caller that writes has mapped it writable, or
                // the kernel ends the process, which is what should happen then.
                unsafe { pointer.write_volatile(1) };
            }
            Access::Exec => {
                assert!(self.executable, "the region holds no code");
                // SAFETY: The region is one of `code`: there is a `ret`, all that a C function without
                // arguments and result needs.
                let function: extern "C" fn() = unsafe { std::mem::transmute(pointer) };
                function();
            }
        }
    }

    /// Gives the contents of all pages back: each faults again. For anonymous memory.
    pub fn discard(&self) -> io::Result<()> {
        // SAFETY: The range is this mapping; nothing is built on its contents.
        unsafe {
            mm::madvise(
                self.start.as_ptr().cast(),
                self.pages * self.stride,
                Advice::LinuxDontNeed,
            )
        }?;
        Ok(())
    }

    /// Keeps huge pages away, where the kernel has them.
    fn without_huge_pages(&self) -> Result<()> {
        match self.advise(libc::MADV_NOHUGEPAGE) {
            // One without them, as those of real time are, knows no such advice.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other.context("cannot turn huge pages off"),
        }
    }

    /// Keeps the memory out of children. A fork makes the pages of all others read-only for a moment,
    /// which can turn one fault of a thread into two.
    pub fn keep_from_children(&self) -> io::Result<()> {
        self.advise(libc::MADV_DONTFORK)
    }

    /// Advises the kernel on all pages by a number that `rustix` has no name for.
    pub fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: The range is this mapping; nothing is built on its contents.
        let result =
            unsafe { libc::madvise(self.start.as_ptr().cast(), self.pages * self.stride, advice) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Gives a file as many pages, each beginning with `first`.
pub fn fill(file: &File, pages: NonZeroUsize, first: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut page = vec![0; page_size()];
    page[..first.len()].copy_from_slice(first);
    for i in 0..pages.get() {
        file.write_all_at(&page, (i * page_size()) as u64)?;
    }
    Ok(())
}

/// Forks. In the child: runs `body` and ends with its status; a panic ends it with status 101.
///
/// # Safety
///
/// While the process has other threads, `body` may do nothing but access memory and make system calls
/// (fork(2): functions that are not async-signal-safe may wait for ever for a lock).
pub unsafe fn fork(body: impl FnOnce() -> i32) -> Result<u32> {
    // SAFETY: By this function's contract the child is content with what fork leaves it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("cannot fork"),
        0 => end_with(body),
        child => Ok(child.unsigned_abs()),
    }
}

/// As [`fork`], but the new process is a child of this one's parent (`CLONE_PARENT`), which has its status.
/// Returns what [`wait_for_sibling`] takes.
///
/// # Safety
///
/// The process has no other threads.
pub unsafe fn make_sibling(body: impl FnOnce() -> i32) -> Result<OwnedFd> {
    let mut pidfd: libc::c_int = -1;
    // The kernel writes it in the child, before that has executed anything.
    let mut tid: libc::c_int = 0;
    let flags = libc::CLONE_PARENT | libc::CLONE_PIDFD | libc::CLONE_CHILD_SETTID | libc::SIGCHLD;
    // SAFETY: Without a stack of its own the child goes on with a copy of this one; both numbers are ours.
    // It is content with what fork leaves it, by this function's contract.
    let made = unsafe {
        let (pidfd, tid) = (&raw mut pidfd, &raw mut tid);
        libc::syscall(libc::SYS_clone, flags, 0, pidfd, tid, 0)
    };
    match made {
        -1 => Err(io::Error::last_os_error()).context("cannot clone"),
        0 => end_with(body),
        // SAFETY: The kernel has made it for us.
        _ => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
    }
}

/// Ends a new process with the status of `body`, or with 101 if it panics.
fn end_with(body: impl FnOnce() -> i32) -> ! {
    let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
    // SAFETY: Ends the process at once, without the exit handlers that are the parent's.
    unsafe { libc::_exit(status) }
}

/// Waits for the end of a process that [`make_sibling`] has made.
pub fn wait_for_sibling(sibling: &OwnedFd) -> Result<()> {
    let mut ended = libc::pollfd {
        fd: sibling.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        // SAFETY: One descriptor of ours.
        if unsafe { libc::poll(&raw mut ended, 1, -1) } == 1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).context("cannot wait for a sibling");
        }
    }
}

/// Waits for a child and fails if it failed.
pub fn wait_for(child: u32) -> Result<()> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is an integer of ours.
        let waited = unsafe { libc::waitpid(child as libc::pid_t, &raw mut status, 0) };
        if waited == child as libc::pid_t {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).context("cannot wait for a child");
        }
    }
    anyhow::ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "child {child} failed (wait status {status:#x})"
    );
    Ok(())
}
