// SPDX-License-Identifier: GPL-2.0-only

//! Readers that wait: woken when there is enough to read and when there will be no more, not before, and
//! never left asleep.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    process::Command,
    ptr, thread,
    time::{Duration, Instant},
};

use fault_tracer_uapi::{mode, Config, SLOT_BYTES};
use sandbox_tests::{
    device::{Session, Setup},
    guest, module,
    program::Program,
    sideband::config,
};

/// Longer than anything here takes on any machine: whoever waits so long was not woken.
const LONG: Duration = guest::NEVER;
/// Long enough that a wake-up that should not come would come.
const SHORT: Duration = Duration::from_millis(200);

const IN: i16 = libc::POLLIN | libc::POLLRDNORM;
const HUP: i16 = libc::POLLHUP;

/// Waits in `poll`: what it found, 0 after the time given.
fn poll(fd: RawFd, time: Duration) -> i16 {
    let mut poll = libc::pollfd {
        fd,
        events: IN,
        revents: 0,
    };
    let time = i32::try_from(time.as_millis()).unwrap();
    // SAFETY: One structure, ours.
    let found = unsafe { libc::poll(&raw mut poll, 1, time) };
    assert!(found >= 0, "poll: {}", io::Error::last_os_error());
    assert_eq!(found == 1, poll.revents != 0);
    poll.revents
}

/// Waits until woken: what it found, and how long it took. At the end of its time `poll` looks once more,
/// and finds what nobody woke it for: that is no wake-up, and reported as nothing found.
fn poll_timed(session: &Session) -> (i16, Duration) {
    let begun = Instant::now();
    let found = poll(session.as_raw_fd(), LONG);
    let time = begun.elapsed();
    (if time < LONG { found } else { 0 }, time)
}

/// A child on CPU 0 that takes exactly so many faults as it is asked to.
struct Toucher {
    pid: i32,
    order: Option<File>,
    done: File,
}

impl Toucher {
    const PAGES: usize = 1024;

    fn new() -> Self {
        let pipe = || {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
            (File::from(read), File::from(write))
        };
        let (orders, order) = pipe();
        let (done, report) = pipe();
        // SAFETY: The child makes system calls and accesses memory that it has mapped itself or that was
        // there before; it ends without running anything of its parent's.
        let pid = unsafe {
            match libc::fork() {
                0 => {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::close(order.as_raw_fd());
                    let mut set: libc::cpu_set_t = std::mem::zeroed();
                    libc::CPU_SET(0, &mut set);
                    libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
                    let length = Self::PAGES * guest::page_size();
                    let memory = libc::mmap(
                        ptr::null_mut(),
                        length,
                        libc::PROT_READ | libc::PROT_WRITE,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    );
                    libc::madvise(memory, length, libc::MADV_NOHUGEPAGE);
                    let start = memory.cast::<u8>();
                    let mut pages = 0u64;
                    while libc::read(orders.as_raw_fd(), (&raw mut pages).cast(), 8) == 8 {
                        for page in 0..pages as usize % (Self::PAGES + 1) {
                            start.add(page * guest::page_size()).write_volatile(1);
                        }
                        libc::madvise(memory, length, libc::MADV_DONTNEED);
                        libc::write(report.as_raw_fd(), (&raw const pages).cast(), 8);
                    }
                    libc::_exit(0);
                }
                pid => pid,
            }
        };
        assert!(pid > 0);
        let mut toucher = Self {
            pid,
            order: Some(order),
            done,
        };
        // The faults of its own: copies of the stack's pages, page tables, the C library.
        for _ in 0..3 {
            toucher.touch(Self::PAGES);
        }
        toucher
    }

    /// Lets it touch pages, and does not wait for it.
    fn begin(&mut self, pages: usize) {
        let order = (pages as u64).to_ne_bytes();
        self.order.as_mut().unwrap().write_all(&order).unwrap();
    }

    /// Waits until it has touched what it was asked to.
    fn finish(&mut self) {
        self.done.read_exact(&mut [0; 8]).unwrap();
    }

    fn touch(&mut self, pages: usize) {
        self.begin(pages);
        self.finish();
    }
}

impl Drop for Toucher {
    fn drop(&mut self) {
        self.order = None;
        let mut status = 0;
        // SAFETY: A child of ours, an integer of ours.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
    }
}

/// A session on a toucher, without records beside the faults.
fn watching(toucher: &Toucher, ring_faults: usize, watermark_faults: usize) -> Session {
    let session = Session::configured(Config {
        ring_bytes: (ring_faults * SLOT_BYTES) as u64,
        watermark_bytes: (watermark_faults * SLOT_BYTES) as u64,
        flags: 0,
        ..config()
    });
    session.add(toucher.pid).unwrap();
    session
}

/// Takes at most so many records of CPU 0.
fn take(session: &Session, records: usize) -> usize {
    let mut buffer = vec![0; records * 4];
    session.drain_into(0, &mut buffer).unwrap() / 4
}

#[test]
fn a_session_that_is_not_started_has_nothing_to_wait_for() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::open().unwrap();
        assert_eq!(poll(session.as_raw_fd(), SHORT), 0);
        session.start().unwrap();
        assert_eq!(poll(session.as_raw_fd(), SHORT), 0, "started, no target");
        session.stop().unwrap();
        assert_eq!(
            poll(session.as_raw_fd(), SHORT),
            HUP,
            "stopped, nothing to read"
        );
    });
}

#[test]
fn a_reader_is_woken_at_the_watermark_and_not_before() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut toucher = Toucher::new();
        for (watermark, given) in [(100, 100), (0, 256), (1, 1), (512, 512)] {
            let session = watching(&toucher, 1024, watermark);
            if given > 1 {
                toucher.touch(given - 1);
                assert_eq!(session.totals().hits, given as u64 - 1);
                assert_eq!(
                    poll(session.as_raw_fd(), SHORT),
                    0,
                    "one fault less than the watermark of {given}"
                );
            }
            // Asleep before the last fault comes.
            let found = thread::scope(|scope| {
                let reader = scope.spawn(|| poll_timed(&session));
                thread::sleep(SHORT);
                assert!(
                    !reader.is_finished(),
                    "woken before the watermark of {given}"
                );
                toucher.touch(1);
                reader.join().unwrap()
            });
            assert_eq!(found.0, IN, "after {:?}", found.1);
            assert!(found.1 < LONG);
            // As long as it is not taken it can be read; when one is taken, it is too little.
            assert_eq!(poll(session.as_raw_fd(), Duration::ZERO), IN);
            assert_eq!(take(&session, 1), 1);
            assert_eq!(poll(session.as_raw_fd(), Duration::ZERO), 0);
        }
    });
}

#[test]
fn no_wake_up_is_missed_in_hundreds_of_rounds() {
    guest::test(|_| {
        let _module = module::load_idle();
        const WATERMARK: usize = 16;
        let mut toucher = Toucher::new();
        for mode in [mode::DISCARD, mode::OVERWRITE] {
            let session = Session::configured(Config {
                ring_bytes: guest::page_size() as u64,
                watermark_bytes: (WATERMARK * SLOT_BYTES) as u64,
                mode,
                flags: 0,
                ..config()
            });
            session.add(toucher.pid).unwrap();
            for round in 0..500 {
                toucher.begin(WATERMARK);
                // In every other round the reader is late, and finds it there.
                if round % 2 == 1 {
                    thread::yield_now();
                }
                let found = poll_timed(&session);
                assert_eq!(
                    found.0, IN,
                    "mode {mode}, round {round}: after {:?}",
                    found.1
                );
                assert_eq!(take(&session, 128), WATERMARK, "mode {mode}, round {round}");
                toucher.finish();
            }
            assert_eq!(session.totals().hits, 500 * WATERMARK as u64);
        }
    });
}

/// A reader that takes less or more than a watermark's worth gets out of step with the producer, who counts
/// from its last wake-up: twice the watermark always wakes.
#[test]
fn a_reader_out_of_step_is_woken_by_twice_the_watermark() {
    guest::test(|_| {
        let _module = module::load_idle();
        const WATERMARK: usize = 32;
        let mut toucher = Toucher::new();
        let session = watching(&toucher, 128, WATERMARK);
        let mut waiting = 0;
        for round in 0..300 {
            let few = round * 7 % (WATERMARK - waiting).max(1);
            toucher.touch(few);
            waiting += few;
            waiting -= take(&session, 1 + round % 5);
            let found = thread::scope(|scope| {
                let reader = scope.spawn(|| poll_timed(&session));
                toucher.touch(2 * WATERMARK);
                reader.join().unwrap()
            });
            assert_eq!(found.0, IN, "round {round}: after {:?}", found.1);
            waiting += 2 * WATERMARK;
            let left = round % 11;
            waiting -= take(&session, waiting - left.min(waiting - 1));
        }
        assert_eq!(session.totals().dropped, 0);
    });
}

/// The largest watermark there may be: whatever the reader took before, when the ring is full it is woken,
/// for nothing more can come.
#[test]
fn a_full_ring_wakes_its_reader_at_any_watermark() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut toucher = Toucher::new();
        for watermark in [64, 65, 100, 128] {
            let session = watching(&toucher, 128, watermark);
            toucher.touch(50);
            assert_eq!(take(&session, 50), 50);
            let found = thread::scope(|scope| {
                let reader = scope.spawn(|| poll_timed(&session));
                thread::sleep(Duration::from_millis(20));
                toucher.touch(200);
                reader.join().unwrap()
            });
            assert_eq!(
                found.0,
                IN,
                "watermark {watermark} of 128: after {:?} {:?}",
                found.1,
                session.totals()
            );
        }
    });
}

#[test]
fn the_end_of_the_last_followed_child_is_reported() {
    guest::test(|_| {
        let _module = module::load_idle();
        // Asleep before, and only then asked.
        for asleep in [true, false] {
            // The shell ends first; its child, in the background, when it is asked to.
            let folder = tempfile::tempdir().unwrap();
            let fifo = folder.path().join("fifo");
            assert!(Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success());
            let script = format!("(read -r _ <{}; true) & exit 0", fifo.display());
            let mut program = Program::new("sh", ["-c", &script], None);
            let session = Session::running(Setup::default());
            session.add(program.pid()).unwrap();
            program.go();
            program.wait().assert_success();
            assert_eq!(
                poll(session.as_raw_fd(), Duration::ZERO),
                0,
                "the child goes on: {:?}",
                session.info()
            );
            let release = || fs::write(&fifo, "go\n").unwrap();
            if asleep {
                let found = thread::scope(|scope| {
                    scope.spawn(|| {
                        thread::sleep(SHORT);
                        release();
                    });
                    poll_timed(&session)
                });
                assert_eq!(found.0, HUP, "after {:?}", found.1);
                assert!(found.1 < LONG);
            } else {
                release();
                while session.info().live_targets != 0 {
                    thread::sleep(Duration::from_millis(5));
                }
                assert_eq!(poll(session.as_raw_fd(), Duration::ZERO), HUP);
            }
        }
    });
}

#[test]
fn a_sleeping_reader_is_woken_when_the_session_is_stopped() {
    guest::test(|_| {
        let _module = module::load_idle();
        let toucher = Toucher::new();
        for _ in 0..20 {
            let session = watching(&toucher, 128, 0);
            let found = thread::scope(|scope| {
                let reader = scope.spawn(|| poll_timed(&session));
                thread::sleep(Duration::from_millis(10));
                session.stop().unwrap();
                reader.join().unwrap()
            });
            assert_eq!(found.0, HUP, "after {:?}", found.1);
        }
    });
}

#[test]
fn a_sleeping_reader_is_woken_when_the_last_target_is_removed() {
    guest::test(|_| {
        let _module = module::load_idle();
        let toucher = Toucher::new();
        let session = watching(&toucher, 128, 0);
        let found = thread::scope(|scope| {
            let reader = scope.spawn(|| poll_timed(&session));
            thread::sleep(SHORT);
            session.remove(toucher.pid).unwrap();
            reader.join().unwrap()
        });
        // It is what a reader finds that asks later.
        assert_eq!(poll(session.as_raw_fd(), Duration::ZERO), HUP);
        assert_eq!(found.0, HUP, "after {:?}", found.1);
    });
}

#[test]
fn two_readers_of_a_file_are_both_woken() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut toucher = Toucher::new();
        let session = watching(&toucher, 128, 32);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| poll_timed(&session)))
                .collect();
            thread::sleep(SHORT);
            toucher.touch(32);
            for reader in readers {
                let found = reader.join().unwrap();
                assert_eq!(found.0, IN, "after {:?}", found.1);
            }
        });
    });
}

/// An epoll instance that watches one file.
struct Epoll(OwnedFd);

impl Epoll {
    fn new(fd: RawFd, flags: i32) -> Self {
        // SAFETY: A new descriptor, ours.
        let epoll = unsafe {
            let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            assert!(epoll >= 0);
            OwnedFd::from_raw_fd(epoll)
        };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | flags).cast_unsigned_compat(),
            u64: 7,
        };
        // SAFETY: The structure is ours.
        let result =
            unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        Self(epoll)
    }

    fn wait(&self, time: Duration) -> u32 {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let time = i32::try_from(time.as_millis()).unwrap();
        // SAFETY: One structure, ours.
        let found = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, time) };
        assert!(found >= 0, "{}", io::Error::last_os_error());
        if found == 0 {
            0
        } else {
            event.events
        }
    }
}

/// `i32::cast_unsigned` of later versions of the language.
trait CastUnsigned {
    fn cast_unsigned_compat(self) -> u32;
}

impl CastUnsigned for i32 {
    fn cast_unsigned_compat(self) -> u32 {
        u32::from_ne_bytes(self.to_ne_bytes())
    }
}

#[test]
fn epoll_tells_by_level_and_by_edge() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut toucher = Toucher::new();
        let session = watching(&toucher, 1024, 32);
        let level = Epoll::new(session.as_raw_fd(), 0);
        let edge = Epoll::new(session.as_raw_fd(), libc::EPOLLET);
        let input = libc::EPOLLIN as u32;
        assert_eq!((level.wait(SHORT), edge.wait(SHORT)), (0, 0));
        for round in 0..50 {
            toucher.touch(32);
            assert_eq!(level.wait(LONG), input, "round {round}");
            assert_eq!(level.wait(LONG), input, "round {round}: not taken yet");
            assert_eq!(edge.wait(LONG), input, "round {round}");
            assert_eq!(
                edge.wait(Duration::from_millis(5)),
                0,
                "round {round}: reported once"
            );
            // Each watermark's worth is another edge, taken or not.
            if round % 3 == 0 {
                toucher.touch(32);
                assert_eq!(edge.wait(LONG), input, "round {round}: the second edge");
            }
            while take(&session, 1024) != 0 {}
            assert_eq!(level.wait(Duration::ZERO), 0, "round {round}: taken");
        }
        session.stop().unwrap();
        let end = libc::EPOLLHUP as u32;
        assert_eq!(edge.wait(LONG), end);
        assert_eq!(edge.wait(SHORT), 0);
        assert_eq!(level.wait(LONG), end);
        assert_eq!(level.wait(LONG), end);
    });
}

/// Time that this thread has used a processor.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The structure is ours.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[test]
fn waiting_uses_no_processor_whatever_others_do() {
    guest::test(|_| {
        let _module = module::load_idle();
        let toucher = Toucher::new();
        let load = Program::load(&["spin", "--threads", "1", "--pages", "64"]);
        let session = watching(&toucher, 128, 0);
        let busy = watching(&toucher, 128, 0);
        // Another session on a busy program does not wake the readers of this one.
        busy.add(load.pid()).unwrap();
        let before = thread_cpu();
        assert_eq!(poll(session.as_raw_fd(), Duration::from_secs(2)), 0);
        let used = thread_cpu() - before;
        assert!(
            used < Duration::from_millis(200),
            "two seconds of waiting took {used:?}"
        );
        assert!(busy.totals().hits > 100);
        load.kill();
    });
}

#[test]
fn a_file_that_waits_and_then_adopts_the_boot_session_can_be_closed_at_any_time() {
    guest::test(|_| {
        let mut toucher = Toucher::new();
        let loaded = module::load(&format!("pid={} ring_kib=4", toucher.pid)).unwrap();
        for turn in 0..50 {
            let session = Session::open().unwrap();
            let epoll = Epoll::new(session.as_raw_fd(), 0);
            let edge = Epoll::new(session.as_raw_fd(), libc::EPOLLET);
            thread::scope(|scope| {
                // Asleep on the file's own session.
                let sleeper = scope.spawn(|| poll(session.as_raw_fd(), Duration::from_millis(60)));
                thread::sleep(Duration::from_millis(5));
                session.adopt().unwrap();
                // And on the adopted one.
                let late = Epoll::new(session.as_raw_fd(), libc::EPOLLET);
                toucher.touch(200);
                assert_ne!(
                    epoll.wait(Duration::ZERO) | late.wait(LONG),
                    0,
                    "turn {turn}"
                );
                sleeper.join().unwrap();
                drop(late);
            });
            // The file goes before who watches it, or after.
            if turn % 2 == 0 {
                drop(session);
                toucher.touch(200);
                assert_eq!(epoll.wait(Duration::ZERO), 0, "the file is closed");
                drop((epoll, edge));
            } else {
                drop((epoll, edge));
                drop(session);
                toucher.touch(200);
            }
        }
        let begun = Instant::now();
        while fs::read_to_string("/sys/module/fault_tracer/refcnt").unwrap() != "0\n" {
            assert!(begun.elapsed() < LONG);
            thread::yield_now();
        }
        loaded.unload().unwrap();
        toucher.touch(10);
    });
}

#[test]
fn a_reader_whose_file_is_closed_meanwhile_sleeps_safely() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut toucher = Toucher::new();
        for _ in 0..20 {
            let session = watching(&toucher, 128, 32);
            let fd = session.as_raw_fd();
            thread::scope(|scope| {
                let reader = scope.spawn(move || poll(fd, Duration::from_millis(100)));
                thread::sleep(Duration::from_millis(20));
                // The sleeper holds the file: the session goes on until it is awake. Then it looks for the
                // descriptor anew, and there may be none.
                drop(session);
                toucher.touch(64);
                assert_eq!(reader.join().unwrap() & !(IN | HUP | libc::POLLNVAL), 0);
            });
        }
    });
}
