// SPDX-License-Identifier: GPL-2.0-only

//! Rings that are too small: what is kept, what is counted, and that nothing kept is damaged. A second
//! session with a large ring on the same target tells what there was to record.

use fault_tracer_uapi::{self as uapi, mode, FaultRecord};
use sandbox_tests::{
    device::{Recording, Session, Setup},
    guest, module,
    program::Program,
};

/// Bytes of the smallest ring.
fn tiny_bytes() -> u64 {
    guest::page_size() as u64
}

/// The faults that it holds.
fn tiny_faults() -> usize {
    guest::page_size() / 32
}

const PAGES: &str = "5000";

fn tiny(mode: u32) -> Setup {
    Setup {
        ring_bytes: tiny_bytes(),
        mode,
        ..Setup::default()
    }
}

/// Runs a program on one CPU under a session that loses nothing and one under test. `meanwhile` is
/// given the latter while the program runs, until it has ended, and returns what it drained.
fn beside(
    setup: Setup,
    meanwhile: impl FnOnce(&Session) -> Vec<Vec<FaultRecord>>,
) -> (Recording, Recording) {
    let mut program = Program::workload(&["touch", "--pages", PAGES], None, Some(0));
    let reference = Session::running(Setup::default());
    let tested = Session::running(setup);
    reference.add(program.pid()).unwrap();
    tested.add(program.pid()).unwrap();
    program.go();
    let drained = meanwhile(&tested);
    program.wait().assert_success();
    let reference = reference.finish();
    reference.assert_complete();
    assert!(
        reference.len() > PAGES.parse().unwrap(),
        "the reference has {} records",
        reference.len()
    );
    tested.stop().unwrap();
    let tested = tested.collect(&drained);
    assert_eq!(tested.missed, 0);
    for cpu in 1..tested.cpus.len() {
        assert_eq!(
            tested.accounts[cpu].hits, 0,
            "the program ran on CPU 0 alone"
        );
    }
    assert_eq!(
        tested.accounts[0].hits,
        reference.len() as u64,
        "faults that the two sessions saw"
    );
    (reference, tested)
}

/// Drains again and again until no target is left.
fn drain_until_the_end(session: &Session) -> Vec<Vec<FaultRecord>> {
    let mut records = vec![Vec::new(); session.info().cpus as usize];
    loop {
        let alive = session.info().live_targets != 0;
        for (cpu, records) in records.iter_mut().enumerate() {
            records.extend(session.drain(cpu as u32));
        }
        if !alive {
            return records;
        }
    }
}

/// Checks that all of `part` is in `whole`, word for word and in the same order.
fn assert_subsequence(part: &[FaultRecord], whole: &[FaultRecord]) {
    let mut rest = whole.iter();
    for (i, record) in part.iter().enumerate() {
        assert!(
            rest.any(|other| other == record),
            "record {i} of {} is damaged, twice there or out of order: {record:x?}",
            part.len()
        );
    }
}

#[test]
fn discard_keeps_the_oldest_and_counts_the_rest() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (reference, tested) = beside(tiny(mode::DISCARD), |_| Vec::new());
        let account = tested.accounts[0];
        assert_eq!(account.recorded, tiny_faults() as u64, "{account:?}");
        assert_eq!(
            account.dropped,
            (reference.len() - tiny_faults()) as u64,
            "{account:?}"
        );
        assert_eq!(account.overwritten, 0, "{account:?}");
        assert_eq!(tested.cpus[0], reference.cpus[0][..tiny_faults()]);
    });
}

#[test]
fn overwrite_keeps_the_newest_and_counts_the_rest() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (reference, tested) = beside(tiny(mode::OVERWRITE), |_| Vec::new());
        let account = tested.accounts[0];
        assert_eq!(account.recorded, tiny_faults() as u64, "{account:?}");
        assert_eq!(
            account.overwritten,
            (reference.len() - tiny_faults()) as u64,
            "{account:?}"
        );
        assert_eq!(account.dropped, 0, "{account:?}");
        assert_eq!(
            tested.cpus[0],
            reference.cpus[0][reference.len() - tiny_faults()..]
        );
    });
}

#[test]
fn draining_while_records_are_overwritten_gives_whole_records_and_an_exact_account() {
    guest::test(|_| {
        let _module = module::load_idle();
        for _ in 0..3 {
            let (reference, tested) = beside(tiny(mode::OVERWRITE), drain_until_the_end);
            let account = tested.accounts[0];
            assert_eq!(account.dropped, 0, "{account:?}");
            assert_eq!(
                tested.len() as u64 + account.overwritten,
                reference.len() as u64,
                "{account:?}"
            );
            assert!(
                tested.len() >= tiny_faults(),
                "delivered {} records",
                tested.len()
            );
            assert_subsequence(&tested.cpus[0], &reference.cpus[0]);
        }
    });
}

#[test]
fn draining_while_records_are_dropped_gives_whole_records_and_an_exact_account() {
    guest::test(|_| {
        let _module = module::load_idle();
        for _ in 0..3 {
            let (reference, tested) = beside(tiny(mode::DISCARD), drain_until_the_end);
            let account = tested.accounts[0];
            assert_eq!(account.overwritten, 0, "{account:?}");
            assert_eq!(
                tested.len() as u64 + account.dropped,
                reference.len() as u64,
                "{account:?}"
            );
            assert_subsequence(&tested.cpus[0], &reference.cpus[0]);
        }
    });
}

#[test]
fn records_can_be_taken_one_by_one() {
    guest::test(|_| {
        let _module = module::load_idle();
        for mode in [mode::DISCARD, mode::OVERWRITE] {
            let one_by_one = |session: &Session| {
                while session.info().live_targets != 0 {
                    std::thread::yield_now();
                }
                session.stop().unwrap();
                let mut records = Vec::new();
                let mut words = [0; 4];
                while session.drain_into(0, &mut words).unwrap() != 0 {
                    records.push(FaultRecord::from_words(words));
                }
                records
            };
            let mut program = Program::workload(&["touch"], None, Some(0));
            let [small, large] = [(); 2].map(|()| {
                let session = Session::running(Setup {
                    mode,
                    ..Setup::default()
                });
                session.add(program.pid()).unwrap();
                session
            });
            program.go();
            program.wait().assert_success();
            let large = large.finish();
            assert_eq!(one_by_one(&small), large.cpus[0], "mode {mode}");
        }
    });
}

/// A drain says how much was overwritten before what it gives, and gives nothing from two sides of a gap.
#[test]
fn a_drain_tells_of_the_gap_before_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::running(tiny(mode::OVERWRITE));
        session.add(guest::own_pid()).unwrap();
        let mut buffer = vec![0u64; 2 * tiny_bytes() as usize];
        let (mut slots, mut gaps) = (0, 0);
        let mut drain = || {
            for cpu in 0..session.info().cpus {
                loop {
                    let mut request = uapi::Drain {
                        buffer: buffer.as_mut_ptr() as u64,
                        length: u32::try_from(buffer.len() * 8).unwrap(),
                        cpu,
                        ..Default::default()
                    };
                    session.with(uapi::FT_IOC_DRAIN, &mut request).unwrap();
                    gaps += u64::from(request.gap_slots);
                    slots += u64::from(request.bytes) / 32;
                    if request.bytes == 0 {
                        assert_eq!(request.gap_slots, 0, "nothing came behind the gap");
                        break;
                    }
                }
            }
        };
        // All that is written to the rings are faults, of one slot each.
        for rings in [0.1, 8.0, 0.8, 24.0] {
            guest::touch_fresh((rings * tiny_faults() as f64) as usize);
            drain();
        }
        session.stop().unwrap();
        drain();
        let totals = session.totals();
        assert!(
            gaps > 24 * tiny_faults() as u64,
            "{gaps} slots in gaps: {totals:?}"
        );
        assert_eq!(
            (slots, gaps),
            (totals.recorded, totals.overwritten),
            "{totals:?}"
        );
    });
}
