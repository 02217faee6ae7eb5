// SPDX-License-Identifier: GPL-2.0-only

//! The rings mapped into the reader: it sees what a drain gives, may write its own page alone, and can
//! harm nobody by it.

use std::{
    fs, io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    ptr,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc,
    },
    thread,
    time::{Duration, Instant},
};

use fault_tracer_uapi::{self as uapi, mode, Config, FaultRecord};
use sandbox_tests::{
    check,
    device::{Session, Setup},
    guest,
    mapped::{Mapped, Ring},
    module,
    program::{Program, WORKLOAD},
    sideband::{assert_holds, config, parse, Record},
    truth::Truth,
};

const READ: i32 = libc::PROT_READ;
const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn rings(session: &Session) -> Vec<Ring> {
    (0..session.info().cpus)
        .map(|cpu| Ring::new(session, cpu).expect("a ring cannot be mapped"))
        .collect()
}

/// Takes from all rings until no target is left, and then what is left.
fn take_until_the_end(session: &Session, rings: &mut [Ring]) -> Vec<Vec<u64>> {
    let mut words = vec![Vec::new(); rings.len()];
    loop {
        let alive = session.info().live_targets != 0;
        for (words, ring) in words.iter_mut().zip(rings.iter_mut()) {
            words.extend(ring.take());
        }
        if !alive {
            return words;
        }
        thread::yield_now();
    }
}

fn faults(words: &[Vec<u64>]) -> Vec<Vec<FaultRecord>> {
    words
        .iter()
        .map(|words| {
            parse(words)
                .into_iter()
                .filter_map(|record| match record {
                    Record::Fault(fault) => Some(fault),
                    _ => None,
                })
                .collect()
        })
        .collect()
}

/// Checks the error of a call.
#[track_caller]
fn assert_error<T>(what: &str, result: io::Result<T>, errno: i32) {
    match result {
        Ok(_) => panic!("{what}: accepted"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno), "{what}: {error}"),
    }
}

#[test]
fn a_mapped_ring_shows_what_another_session_drains() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let truth = folder.path().join("truth");
        let mut program = Program::workload(
            &["touch", "--pages", "10000", "--threads", "4"],
            Some(&truth),
            None,
        );
        let drained = Session::running(Setup::default());
        // A ring of 512 faults: it wraps around some eighty times.
        let mapped = Session::running(Setup {
            ring_bytes: 16 << 10,
            ..Setup::default()
        });
        for session in [&drained, &mapped] {
            session.add(program.pid()).unwrap();
        }
        let mut rings = rings(&mapped);
        program.go();
        let seen = faults(&take_until_the_end(&mapped, &mut rings));
        program.wait().assert_success();
        mapped.stop().unwrap();
        let drained = drained.finish();
        drained.assert_complete();
        check::matches(&Truth::read(&truth), &drained);
        let totals = mapped.totals();
        let delivered: u64 = seen.iter().map(|records| records.len() as u64).sum();
        assert_eq!(totals.recorded, delivered, "{totals:?}");
        assert_eq!(totals.hits, totals.recorded + totals.dropped, "{totals:?}");
        assert_eq!(totals.hits, drained.len() as u64, "{totals:?}");
        assert_eq!(totals.pending, 0, "{totals:?}");
        assert!(
            delivered * 32 > 8 * (16 << 10),
            "the rings did not wrap around: {totals:?}"
        );
        for (cpu, (seen, drained)) in seen.iter().zip(&drained.cpus).enumerate() {
            // Each session reads the clock for itself.
            let key =
                |fault: &FaultRecord| (fault.header, fault.address_counters, fault.ip_mapping);
            if mapped.counters(cpu as u32).unwrap().dropped == 0 {
                assert_eq!(seen.len(), drained.len(), "CPU {cpu}");
            }
            let mut rest = drained.iter();
            for fault in seen {
                assert!(
                    rest.any(|other| key(other) == key(fault)),
                    "CPU {cpu}: {fault:x?} is damaged, twice there or out of order"
                );
            }
        }
    });
}

#[test]
fn records_of_all_kinds_come_whole_through_a_small_mapped_ring() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut program = Program::new(
            WORKLOAD,
            [
                "children", "--count", "100", "--pages", "50", "--how", "exec",
            ],
            None,
        );
        let session = Session::configured(Config {
            ring_bytes: 16 << 10,
            ..config()
        });
        session.add(program.pid()).unwrap();
        let mut rings = rings(&session);
        program.go();
        let words = take_until_the_end(&session, &mut rings);
        program.wait().assert_success();
        session.stop().unwrap();
        for (cpu, (words, ring)) in words.iter().zip(&rings).enumerate() {
            let account = session.counters(cpu as u32).unwrap();
            assert_eq!(ring.consumer()[1].load(Ordering::Relaxed), account.recorded);
            assert_eq!(account.hits, account.recorded + account.dropped);
            assert_eq!(account.pending, 0);
            let mut known = std::collections::HashMap::new();
            let mut reported = 0;
            for record in parse(words) {
                match record {
                    Record::Mapping(mapping) => {
                        known.insert(mapping.number, mapping);
                    }
                    Record::Fault(fault) => {
                        if let Some(mapping) = known.get(&fault.mapping()) {
                            assert_holds(mapping, &fault);
                        }
                    }
                    Record::Lost(lost) => reported += lost.count,
                    _ => {}
                }
            }
            assert!(
                reported <= account.dropped,
                "CPU {cpu}: {reported} of {account:?}"
            );
            // What no record tells of is the producer's own count.
            assert_eq!(
                reported + ring.producer()[8].load(Ordering::Relaxed),
                account.dropped,
                "CPU {cpu}: losses reported and yet to be reported, and {account:?}"
            );
        }
    });
}

#[test]
fn what_may_not_be_mapped_is_refused() {
    guest::test(|log| {
        let _module = module::load_idle();
        let session = Session::idle(Setup {
            ring_bytes: 4 * guest::page_size() as u64,
            ..Setup::default()
        });
        let info = session.info();
        let stride = info.ring_stride;
        let [consumer, producer, data] =
            [info.consumer_offset, info.producer_offset, info.data_offset].map(u64::from);
        let map = |offset: u64, length: usize, rights, flags| {
            Mapped::new(&session, offset, length, rights, flags)
        };
        let shared = libc::MAP_SHARED;
        log.news();
        assert_error(
            "before the start",
            map(consumer, guest::page_size(), READ, shared),
            libc::EINVAL,
        );
        assert_eq!(log.news().len(), 1);
        session.start().unwrap();

        for (what, offset, length) in [
            ("the producer page", producer, guest::page_size()),
            ("the data", data, info.ring_bytes as usize),
            (
                "a page of the data",
                data + guest::page_size() as u64,
                guest::page_size(),
            ),
            ("a whole ring", 0, stride as usize),
            (
                "the consumer and the producer page",
                consumer,
                2 * guest::page_size(),
            ),
        ] {
            assert_error(
                &format!("{what}, writable"),
                map(offset, length, WRITE, shared),
                libc::EPERM,
            );
        }
        for (what, offset, length) in [
            (
                "across two rings",
                data,
                info.ring_bytes as usize + guest::page_size(),
            ),
            ("two rings", 0, 2 * stride as usize),
            (
                "behind the last",
                u64::from(info.cpus) * stride,
                guest::page_size(),
            ),
            ("far behind the last", 1 << 40, guest::page_size()),
            (
                "at the end of all offsets",
                (1 << 63) - guest::page_size() as u64,
                guest::page_size(),
            ),
        ] {
            assert_error(what, map(offset, length, READ, shared), libc::EINVAL);
        }
        for (what, offset) in [("consumer", consumer), ("producer", producer)] {
            for rights in [READ, WRITE] {
                assert_error(
                    &format!("the {what} page, private"),
                    map(offset, guest::page_size(), rights, libc::MAP_PRIVATE),
                    libc::EINVAL,
                );
            }
        }
        for offset in [consumer, producer, data] {
            let result = map(offset, guest::page_size(), READ | libc::PROT_EXEC, shared);
            assert!(result.is_err(), "an executable mapping at {offset:#x}");
        }
        // Each reason is said once.
        let said = log.news();
        assert!((1..=4).contains(&said.len()), "{said:?}");

        // The right ones, and what may not be made of them.
        let page = map(consumer, guest::page_size(), WRITE, shared).unwrap();
        let rest = map(
            producer,
            guest::page_size() + info.ring_bytes as usize,
            READ,
            shared,
        )
        .unwrap();
        let whole = map(0, stride as usize, READ, shared).unwrap();
        for mapping in [&rest, &whole] {
            for rights in [WRITE, libc::PROT_WRITE, READ | libc::PROT_EXEC] {
                // SAFETY: A mapping of ours, whose rights the call refuses to change.
                let result =
                    unsafe { libc::mprotect(mapping.start().cast(), guest::page_size(), rights) };
                assert_eq!(result, -1, "rights {rights:#x} were given");
                assert_eq!(
                    io::Error::last_os_error().raw_os_error(),
                    Some(libc::EACCES)
                );
            }
        }
        // SAFETY: As above: refused.
        let result = unsafe {
            libc::mprotect(
                page.start().cast(),
                guest::page_size(),
                WRITE | libc::PROT_EXEC,
            )
        };
        assert_eq!(result, -1, "the consumer page became executable");
        for mapping in [&page, &rest, &whole] {
            // SAFETY: As above: a mapping that cannot be expanded.
            let moved = unsafe {
                libc::mremap(
                    mapping.start().cast(),
                    guest::page_size(),
                    4 * guest::page_size(),
                    libc::MREMAP_MAYMOVE,
                )
            };
            assert_eq!(moved, libc::MAP_FAILED, "a mapping was expanded");
        }
        // The consumer page can be read-only too, and is the same for all.
        let other = map(consumer, guest::page_size(), READ, shared).unwrap();
        page.words()[0].store(0, Ordering::Relaxed);
        page.words()[1].store(5, Ordering::Relaxed);
        assert_eq!(other.words()[1].load(Ordering::Relaxed), 5);
        assert_eq!(session.counters(0).unwrap().recorded, 5);
        drop((page, rest, whole, other));
    });
}

/// Ways around the rights of a mapping that root has with other memory.
#[test]
fn a_read_only_mapping_cannot_be_written_by_any_way_around() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::running(Setup::default());
        session.add(guest::own_pid()).unwrap();
        guest::touch_fresh(256);
        session.stop().unwrap();
        let info = session.info();
        let mapping = Mapped::new(
            &session,
            u64::from(info.producer_offset),
            guest::page_size(),
            READ,
            libc::MAP_SHARED,
        )
        .unwrap();
        let before: Vec<u64> = mapping
            .words()
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect();
        let start = mapping.start();
        // As debuggers write to private mappings that are read-only.
        let memory = fs::File::options()
            .write(true)
            .open("/proc/self/mem")
            .unwrap();
        let written = memory.write_at(&[0xff; 64], start as u64);
        assert!(written.is_err(), "/proc/self/mem wrote {written:?}");
        let local = libc::iovec {
            iov_base: [0xffu8; 64].as_mut_ptr().cast(),
            iov_len: 64,
        };
        let remote = libc::iovec {
            iov_base: start.cast(),
            iov_len: 64,
        };
        // SAFETY: Both structures are ours; the call is to refuse the write.
        let written = unsafe {
            libc::process_vm_writev(
                guest::own_pid(),
                &raw const local,
                1,
                &raw const remote,
                1,
                0,
            )
        };
        assert_eq!(written, -1, "process_vm_writev");
        // A system call that writes to memory: itself, for the C library's function may do without it.
        // SAFETY: As above.
        let read = unsafe { libc::syscall(libc::SYS_getrandom, start, 64, 0) };
        assert_eq!(read, -1, "getrandom");
        // The answer of one of the device's own.
        // SAFETY: As above.
        let answer = unsafe { session.call(uapi::FT_IOC_INFO, start as usize) };
        assert_error("INFO into the producer page", answer, libc::EFAULT);
        for (what, advice) in [
            ("MADV_DOFORK", libc::MADV_DOFORK),
            ("MADV_DODUMP", libc::MADV_DODUMP),
            ("MADV_REMOVE", libc::MADV_REMOVE),
        ] {
            // SAFETY: A mapping of ours; the advice is to be refused.
            let result = unsafe { libc::madvise(start.cast(), guest::page_size(), advice) };
            assert_eq!(result, -1, "{what} is taken");
        }
        // SAFETY: A mapping of ours; the duplicate is to be refused.
        let twice =
            unsafe { libc::mremap(start.cast(), 0, guest::page_size(), libc::MREMAP_MAYMOVE) };
        assert_eq!(twice, libc::MAP_FAILED, "a mapping was duplicated");
        let after: Vec<u64> = mapping
            .words()
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect();
        assert_eq!(before, after);
        // Given away, it does not come back, and no other memory in its place.
        // SAFETY: Nothing refers to what is mapped there.
        unsafe { libc::madvise(start.cast(), guest::page_size(), libc::MADV_DONTNEED) };
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        // SAFETY: The call reads 8 bytes of the mapping, or fails.
        let result = unsafe { libc::write(writer.as_raw_fd(), start.cast(), 8) };
        assert_error(
            "a page that was given away",
            if result < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            },
            libc::EFAULT,
        );
    });
}

#[test]
fn a_fresh_ring_shows_zeros_and_nothing_of_the_kernel() {
    guest::test(|_| {
        let _module = module::load_idle();
        // So that memory which was in use is given out again.
        for _ in 0..3 {
            drop(vec![0x55u8; 64 << 20]);
            let session = Session::running(Setup {
                ring_bytes: 8 << 20,
                ..Setup::default()
            });
            for ring in rings(&session) {
                for (what, words) in [
                    ("consumer", ring.consumer()),
                    ("producer", ring.producer()),
                    ("data", ring.data()),
                ] {
                    let at = words
                        .iter()
                        .position(|word| word.load(Ordering::Relaxed) != 0);
                    assert_eq!(at, None, "a word of the {what} page is not zero");
                }
            }
        }
        // And in use, no address of the kernel's half.
        let session = Session::configured(config());
        session.add(guest::own_pid()).unwrap();
        guest::touch_fresh(1000);
        session.stop().unwrap();
        assert!(session.totals().hits > 500, "{:?}", session.totals());
        for ring in rings(&session) {
            for word in ring.producer() {
                assert!(word.load(Ordering::Relaxed) < 1 << 63);
            }
        }
    });
}

#[test]
fn a_mapping_is_not_inherited_by_a_child() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::running(Setup::default());
        let ring = Ring::new(&session, 0).unwrap();
        for part in [ring.consumer(), ring.producer(), ring.data()] {
            // SAFETY: The child makes one load and ends at once.
            let child = unsafe {
                match libc::fork() {
                    0 => {
                        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                        part[0].load(Ordering::Relaxed);
                        libc::_exit(0);
                    }
                    child => child,
                }
            };
            assert!(child > 0);
            let mut status = 0;
            // SAFETY: A child of ours, an integer of ours.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert!(
                libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV,
                "wait status {status:#x}"
            );
        }
    });
}

#[test]
fn a_mapping_outlives_its_file_and_holds_the_module() {
    guest::test(|_| {
        let loaded = module::load_idle();
        let session = Session::running(Setup::default());
        session.add(guest::own_pid()).unwrap();
        guest::touch_fresh(256);
        session.stop().unwrap();
        let mut rings = rings(&session);
        let recorded = session.totals().recorded;
        assert!(recorded > 100);
        drop(session);
        assert_eq!(
            module::unload().unwrap_err().raw_os_error(),
            Some(libc::EWOULDBLOCK),
            "the module is unloaded under a mapping"
        );
        let seen: Vec<_> = rings.iter_mut().map(Ring::take).collect();
        let seen: usize = faults(&seen).iter().map(Vec::len).sum();
        assert_eq!(seen as u64, recorded);
        drop(rings);
        // The last reference to a file is given up a moment after the call that did it.
        let begun = Instant::now();
        while fs::read_to_string("/sys/module/fault_tracer/refcnt").unwrap() != "0\n" {
            assert!(begun.elapsed() < guest::NEVER);
            thread::yield_now();
        }
        loaded.unload().unwrap();
        module::assert_gone();
    });
}

/// Writes nonsense to the consumer pages, for a while and from a thread of its own.
fn scribble(session: &Session, stop: &Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    let rings = rings(session);
    let stop = stop.clone();
    thread::spawn(move || {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut writes = 0;
        while !stop.load(Ordering::Relaxed) {
            for ring in &rings {
                let head = ring.producer()[0].load(Ordering::Relaxed);
                let position = match random() % 8 {
                    0 => random(),
                    1 => u64::MAX,
                    2 => head.wrapping_add(random() % 4096),
                    3 => head.wrapping_sub(random() % (1 << 20)),
                    4 => 0,
                    5 => random() % 64,
                    6 => 1 << 63,
                    _ => head,
                };
                ring.consumer()[0].store(position, Ordering::Relaxed);
                ring.consumer()[1].store(random(), Ordering::Relaxed);
                for word in &ring.consumer()[2..] {
                    word.store(random(), Ordering::Relaxed);
                }
                writes += 1;
            }
            thread::yield_now();
        }
        writes
    })
}

#[test]
fn a_hostile_consumer_page_harms_its_own_session_alone() {
    guest::test(|_| {
        let _module = module::load_idle();
        for mode in [mode::DISCARD, mode::OVERWRITE] {
            for flags in [config().flags, 0] {
                let folder = tempfile::tempdir().unwrap();
                let truth = folder.path().join("truth");
                let mut program = Program::workload(
                    &["touch", "--pages", "5000", "--threads", "4"],
                    Some(&truth),
                    None,
                );
                let exact = Session::running(Setup::default());
                let hostile = Session::configured(Config {
                    ring_bytes: guest::page_size() as u64,
                    mode,
                    flags,
                    watermark_bytes: 64,
                    ..config()
                });
                for session in [&exact, &hostile] {
                    session.add(program.pid()).unwrap();
                }
                let stop = Arc::new(AtomicBool::new(false));
                let scribbler = scribble(&hostile, &stop);
                program.go();
                // Whatever the answers are, there are some.
                let mut buffer = vec![0; 1 << 16];
                while hostile.info().live_targets != 0 {
                    hostile.totals_or_nonsense();
                    for cpu in 0..hostile.info().cpus {
                        hostile.drain_into(cpu, &mut buffer).unwrap();
                    }
                    hostile.overviews();
                    poll_once(&hostile);
                }
                program.wait().assert_success();
                stop.store(true, Ordering::Relaxed);
                assert!(scribbler.join().unwrap() > 10);
                hostile.stop().unwrap();
                hostile.totals_or_nonsense();
                let recording = exact.finish();
                recording.assert_complete();
                check::matches(&Truth::read(&truth), &recording);
                // The producer's own counts are not for others to change.
                let hits: u64 = (0..hostile.info().cpus)
                    .map(|cpu| hostile.counters(cpu).unwrap().hits)
                    .sum();
                assert_eq!(hits, recording.len() as u64);
            }
        }
    });
}

fn poll_once(session: &Session) {
    let mut poll = libc::pollfd {
        fd: session.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: One structure, ours.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
}

/// A drain writes to user memory, which may fault and so take the lock under which another thread maps:
/// the one must never wait for the other.
#[test]
fn mapping_and_draining_into_fresh_memory_do_not_wait_for_each_other() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::configured(Config {
            ring_bytes: 64 << 10,
            mode: mode::OVERWRITE,
            ..config()
        });
        let load = Program::load(&["spin", "--threads", "2", "--pages", "64"]);
        session.add(load.pid()).unwrap();
        // The drain's own faults are recorded as well.
        session.add(guest::own_pid()).unwrap();
        let end = Instant::now() + Duration::from_secs(4);
        let (drains, maps) = (AtomicU64::new(0), AtomicU64::new(0));
        // So long, and as long as it takes for some of both.
        let goes_on = || {
            let least = drains
                .load(Ordering::Relaxed)
                .min(maps.load(Ordering::Relaxed));
            Instant::now() < end || least <= 20
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                while goes_on() {
                    drop(rings(&session));
                    maps.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                while goes_on() {
                    session.totals();
                    session.overviews();
                    poll_once(&session);
                }
            });
            while goes_on() {
                // SAFETY: A new mapping, and its end; the drain writes within it.
                unsafe {
                    let length = 64 * guest::page_size();
                    let start = libc::mmap(
                        ptr::null_mut(),
                        length,
                        WRITE,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    );
                    assert_ne!(start, libc::MAP_FAILED);
                    for cpu in 0..session.info().cpus {
                        let words = std::slice::from_raw_parts_mut(start.cast::<u64>(), length / 8);
                        session.drain_into(cpu, words).unwrap();
                    }
                    libc::munmap(start, length);
                }
                drains.fetch_add(1, Ordering::Relaxed);
            }
        });
        load.kill();
    });
}

#[test]
fn many_mappings_of_many_sessions_come_and_go() {
    guest::test(|_| {
        let _module = module::load_idle();
        let load = Program::load(&["spin", "--threads", "2", "--pages", "64"]);
        for turn in 0..30 {
            let session = Session::configured(Config {
                ring_bytes: (guest::page_size() as u64) << (turn % 6),
                mode: turn % 2,
                ..config()
            });
            session.add(load.pid()).unwrap();
            let mappings: Vec<_> = (0..10).map(|_| rings(&session)).collect();
            let stopped = turn % 3 == 0;
            if stopped {
                session.stop().unwrap();
            }
            drop(session);
            // Without a file the session goes on as long as a mapping shows it.
            for ring in mappings.iter().flatten() {
                ring.producer()[0].load(Ordering::Acquire);
            }
        }
        load.kill();
    });
}
