// SPDX-License-Identifier: GPL-2.0-only

//! Records as the module makes them, and the rows that must come of them.

use super::*;
use proptest::prelude::*;

const TID: u32 = 70;

fn fault(time_ns: u64, tid: u32, address: u64, flags: u64, min: u64, maj: u64) -> Record {
    in_mapping(
        time_ns,
        tid,
        address,
        flags,
        min,
        maj,
        uapi::MAPPING_UNKNOWN,
    )
}

fn in_mapping(
    time_ns: u64,
    tid: u32,
    address: u64,
    flags: u64,
    min: u64,
    maj: u64,
    number: u16,
) -> Record {
    let number = u64::from(number);
    Record::Fault(FaultRecord {
        header: u64::from(tid)
            | u64::from(TID) << uapi::HEADER_TGID_SHIFT
            | flags << uapi::HEADER_FLAGS_SHIFT
            | (number >> 8) << uapi::HEADER_MAPPING_SHIFT
            | uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT,
        time_ns,
        address_counters: address
            | (min & uapi::COUNTER_MASK) << uapi::MIN_FLT_SHIFT
            | (maj & uapi::COUNTER_MASK) << uapi::MAJ_FLT_SHIFT,
        ip_mapping: (number & 0xff) << uapi::ADDRESS_BITS,
    })
}

fn task(time_ns: u64, tid: u32, event: TaskEvent, comm: &str, min: u64, maj: u64) -> Record {
    Record::Task(Box::new(Task {
        time_ns,
        tid,
        pid: TID,
        parent: 1,
        event,
        comm: comm.into(),
        path: String::new(),
        min_flt: min,
        maj_flt: maj,
        from_id: tid,
    }))
}

fn exit(time_ns: u64, tid: u32, min_flt: u64, maj_flt: u64) -> Record {
    Record::Exit(Exit {
        time_ns,
        tid,
        pid: TID,
        min_flt,
        maj_flt,
    })
}

fn mapping(number: u16, start: u64, offset: u64, flags: u32, path: &str) -> Record {
    Record::Mapping(Box::new(Mapping {
        time_ns: 0,
        tid: TID,
        pid: TID,
        number,
        start,
        end: start + 0x10000,
        offset,
        inode: 0,
        device: 0,
        flags,
        path: path.into(),
        file: None,
    }))
}

fn resolve(records: impl IntoIterator<Item = (u32, Record)>) -> Vec<Row> {
    resolve_with(Resolver::new(), records)
}

fn resolve_with(
    mut resolver: Resolver,
    records: impl IntoIterator<Item = (u32, Record)>,
) -> Vec<Row> {
    let mut out = Vec::new();
    for (cpu, record) in records {
        resolver.push(cpu, record, &mut out);
    }
    resolver.finish(&mut out);
    out
}

fn faults(rows: &[Row]) -> Vec<&ResolvedFault> {
    rows.iter()
        .filter_map(|row| match row {
            Row::Fault(fault) => Some(&**fault),
            _ => None,
        })
        .collect()
}

fn fates(rows: &[Row]) -> Vec<Fate> {
    faults(rows).iter().map(|fault| fault.fate).collect()
}

fn gaps(rows: &[Row]) -> Vec<u64> {
    let gap = |row: &Row| match row {
        Row::Gap(gap) => Some(gap.count),
        _ => None,
    };
    rows.iter().filter_map(gap).collect()
}

/// A thread was inside of a fault of the kernel's when the recording began, and what comes next is no fault.
#[test]
fn a_gap_before_a_task_is_that_threads() {
    let gaps_of = |records: Vec<Record>| -> Vec<_> {
        let mut resolver = Resolver::new();
        let mut rows = Vec::new();
        for record in records {
            resolver.push(0, record, &mut rows);
        }
        let gap = |row: &Row| match row {
            Row::Gap(gap) => Some((gap.pid, gap.tid, gap.count)),
            _ => None,
        };
        rows.iter().filter_map(gap).collect()
    };
    for event in [TaskEvent::Rename, TaskEvent::Exec, TaskEvent::Alive] {
        let present = task(1, TID, TaskEvent::Present, "x", 5, 0);
        let gaps = gaps_of(vec![present, task(2, TID, event, "y", 6, 0)]);
        assert_eq!(gaps, [(TID, TID, 1)], "{event:?}");
    }
    // Another thread than the first executes a program.
    let Record::Task(mut exec) = task(3, TID, TaskEvent::Exec, "y", 6, 0) else {
        unreachable!()
    };
    exec.from_id = TID + 1;
    let gaps = gaps_of(vec![
        task(1, TID + 1, TaskEvent::Present, "x", 5, 0),
        task(2, TID, TaskEvent::Rename, "y", 6, 0),
        Record::Task(exec),
    ]);
    assert_eq!(gaps, [(TID, TID + 1, 1)]);
}

#[test]
fn a_process_is_forgotten_whose_thread_was_reported_twice() {
    let mut resolver = Resolver::new();
    let mut out = Vec::new();
    for event in [TaskEvent::Fork, TaskEvent::Present, TaskEvent::Present] {
        resolver.push(0, task(1, TID, event, "x", 0, 0), &mut out);
    }
    assert_eq!(resolver.codes.processes(), 1);
    resolver.push(0, exit(2, TID, 0, 0), &mut out);
    assert_eq!(resolver.codes.processes(), 0);
}

#[test]
fn the_next_record_tells_the_fate() {
    let lock = fault_flag::VMA_LOCK;
    let records = || {
        let records = [
            task(0, TID, TaskEvent::Fork, "x", 0, 0),
            fault(1, TID, 0x1000, lock, 0, 0),
            fault(2, TID, 0x2000, lock, 1, 0),
            fault(3, TID, 0x2008, 0, 1, 0),
            fault(4, TID, 0x2008, fault_flag::TRIED, 1, 0),
            fault(5, TID, 0x3000, lock, 1, 1),
            fault(6, TID, 0x3000, lock, 1, 1),
            fault(7, TID, 0x4000, lock, 1, 1),
            exit(8, TID, 2, 1),
        ];
        records.map(|record| (0, record))
    };
    use Fate::{Failed, Major, Minor, Retried};
    let attempts = |rows: &[Row]| -> Vec<u32> {
        let fault = |row: &Row| match row {
            Row::Fault(fault) => Some(fault.attempts),
            _ => None,
        };
        rows.iter().filter_map(fault).collect()
    };
    let rows = resolve(records());
    assert_eq!(fates(&rows), [Minor, Major, Failed, Failed, Minor]);
    assert_eq!(attempts(&rows), [1, 3, 1, 1, 1]);
    assert!(gaps(&rows).is_empty());
    assert_eq!(rows.last().unwrap().event(), "exit");

    let mut apart = Resolver::new();
    apart.keep_attempts_apart();
    let rows = resolve_with(apart, records());
    assert_eq!(
        fates(&rows),
        [Minor, Retried, Retried, Major, Failed, Failed, Minor]
    );
    assert_eq!(attempts(&rows), [1; 7]);
}

#[test]
fn attempts_of_a_fault_are_of_one_page() {
    let records = || {
        [
            task(0, TID, TaskEvent::Fork, "x", 0, 0),
            fault(10, TID, 0x1_0000, fault_flag::VMA_LOCK, 0, 0),
            fault(20, TID, 0x1_3fff, fault_flag::TRIED, 0, 0),
            exit(30, TID, 1, 0),
        ]
        .map(|record| (0, record))
    };
    for (bytes, expected) in [(4 << 10, 2), (16 << 10, 1), (64 << 10, 1)] {
        let mut resolver = Resolver::new();
        resolver.set_page_size(PageSize::of_bytes(bytes).unwrap());
        let rows = resolve_with(resolver, records());
        assert_eq!(faults(&rows).len(), expected, "{bytes}");
    }
}

#[test]
fn the_page_of_a_fault_is_what_it_has_mapped() {
    let small = PageSize::default();
    // A page, a page in a folio of 64 KiB, a huge page; what is no size.
    assert_eq!(page_bytes(Kind::ZeroFill, 12, small), Some(4096));
    assert_eq!(page_bytes(Kind::ZeroFill, 12 | 3 << 16, small), Some(4096));
    assert_eq!(
        [12, 12 | 1 << 16, 12 | 3 << 16].map(page_node),
        [None, Some(0), Some(2)]
    );
    assert_eq!(page_bytes(Kind::ZeroFill, 12 | 16 << 8, small), Some(65536));
    assert_eq!(
        page_bytes(Kind::CopyOnWrite, 12 | 16 << 8, small),
        Some(4096)
    );
    assert_eq!(page_bytes(Kind::ZeroFill, 21, small), Some(2 << 20));
    for unknown in [0, 3, 0xff, 16 << 8] {
        assert_eq!(page_bytes(Kind::FileRead, unknown, small), None);
    }
    // None is smaller than a page.
    let large = PageSize::of_bytes(64 << 10).unwrap();
    let sizes = [15, 16, 29].map(|shift| page_bytes(Kind::FileRead, shift, large));
    assert_eq!(sizes, [None, Some(64 << 10), Some(512 << 20)]);
    let back = |time_ns, entry_ns, page, around| {
        Record::Return(Return {
            time_ns,
            tid: TID,
            pid: TID,
            entry_ns,
            result: 0,
            around,
            page,
        })
    };
    let records = [
        task(0, TID, TaskEvent::Fork, "x", 0, 0),
        // Its first attempt gave up the lock.
        fault(10, TID, 0x2000, fault_flag::VMA_LOCK, 0, 0),
        back(20, 10, 0, None),
        fault(30, TID, 0x2000, fault_flag::TRIED, 0, 0),
        back(40, 30, 21, Some(15)),
        fault(50, TID, 0x400_000, fault_flag::VMA_LOCK, 1, 0),
        exit(60, TID, 2, 0),
    ];
    let rows = resolve(records.map(|record| (0, record)));
    let sizes: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Fault(fault) => Some((fault.page_bytes, fault.around)),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [(Some(2 << 20), Some(15)), (None, None)]);
}

#[test]
fn the_time_of_a_fault_is_that_of_all_its_attempts() {
    let back = |time_ns, entry_ns| {
        Record::Return(Return {
            time_ns,
            tid: TID,
            pid: TID,
            entry_ns,
            result: 0,
            around: None,
            page: 0,
        })
    };
    let rows = resolve(
        [
            task(0, TID, TaskEvent::Fork, "x", 0, 0),
            fault(10, TID, 0x2000, fault_flag::VMA_LOCK, 0, 0),
            back(500, 10),
            fault(510, TID, 0x2000, fault_flag::TRIED, 0, 0),
            back(520, 510),
            // The return of an attempt is missing: it was not that of the last one.
            fault(600, TID, 0x3000, fault_flag::VMA_LOCK, 0, 1),
            fault(700, TID, 0x3000, fault_flag::TRIED, 0, 1),
            back(730, 700),
            fault(800, TID, 0x4000, fault_flag::VMA_LOCK, 1, 1),
            back(810, 800),
            fault(820, TID, 0x4000, fault_flag::TRIED, 1, 1),
            exit(900, TID, 2, 1),
        ]
        .map(|record| (0, record)),
    );
    let times: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Fault(fault) => Some((fault.attempts, fault.returns, fault.duration_ns)),
            _ => None,
        })
        .collect();
    assert_eq!(times, [(2, 2, Some(510)), (2, 1, Some(130)), (2, 1, None)]);
}

/// While rules do not hold for its process, a thread's counters rise without records.
#[test]
fn a_thread_that_left_and_comes_back_begins_anew() {
    let rows = resolve(
        [
            task(0, TID, TaskEvent::Present, "x", 10, 0),
            fault(10, TID, 0x2000, 0, 10, 0),
            task(20, TID, TaskEvent::Left, "x", 11, 0),
            // Was under way to the hook when it left.
            fault(21, TID, 0x3000, 0, 11, 0),
            // It is traced again, and faults before another thread tells of it.
            fault(900, TID, 0x4000, 0, 49, 3),
            task(910, TID, TaskEvent::Present, "x", 50, 3),
            fault(920, TID, 0x5000, 0, 50, 3),
            exit(930, TID, 51, 3),
        ]
        .map(|record| (0, record)),
    );
    assert!(gaps(&rows).is_empty(), "{rows:?}");
    let unknown = Fate::Unknown;
    assert_eq!(fates(&rows), [Fate::Minor, unknown, unknown, Fate::Minor]);
}

#[test]
fn of_a_selection_returns_alone_tell_the_fates() {
    let back = |time_ns, entry_ns, result| {
        Record::Return(Return {
            time_ns,
            tid: TID,
            pid: TID,
            entry_ns,
            result,
            around: None,
            page: 0,
        })
    };
    let mut resolver = Resolver::new();
    resolver.expect_selection();
    let rows = resolve_with(
        resolver,
        [
            task(0, TID, TaskEvent::Fork, "x", 0, 0),
            fault(10, TID, 0x2000, 0, 3, 0),
            back(11, 10, 0),
            fault(20, TID, 0x3000, 0, 9, 0),
            back(21, 20, uapi::fault_result::MAJOR),
            fault(30, TID, 0x4000, fault_flag::VMA_LOCK, 4, 2),
            back(31, 30, uapi::fault_result::RETRY),
            fault(32, TID, 0x4000, fault_flag::TRIED, 4, 2),
            back(33, 32, 0),
            fault(40, TID, 0x5000, 0, 7, 7),
            back(41, 40, uapi::fault_result::SIGBUS),
            fault(50, TID, 0x6000, 0, 8, 8),
            exit(60, TID, 100, 50),
        ]
        .map(|record| (0, record)),
    );
    assert!(gaps(&rows).is_empty(), "{rows:?}");
    use Fate::{Failed, Major, Minor, Unknown};
    assert_eq!(fates(&rows), [Minor, Major, Major, Failed, Unknown]);
    assert_eq!(faults(&rows)[2].attempts, 2);
}

#[test]
fn a_snapshot_has_the_names_of_its_end_as_far_back_as_they_are_known() {
    let again = mapping_flag::READ | mapping_flag::AGAIN;
    let records = [
        (
            0,
            Record::Overrun(Overrun {
                since_ns: 0,
                until_ns: 15,
                slots: 9,
            }),
        ),
        (0, in_mapping(10, TID, 0x10000, 0, 0, 0, 7)),
        (0, in_mapping(20, TID, 0x10000, 0, 1, 0, 7)),
        (0, in_mapping(25, TID, 0x10000, 0, 2, 0, 8)),
        (0, mapping(7, 0x10000, 0, again, "/a")),
        (0, mapping(8, 0x10000, 0, mapping_flag::READ, "/b")),
        (0, in_mapping(30, TID, 0x10000, 0, 3, 0, 8)),
        (0, fault(40, 71, 0x10000, 0, 0, 0)),
        (0, task(50, 71, TaskEvent::Rename, "new", 1, 0)),
        (0, fault(60, 71, 0x10000, 0, 1, 0)),
        (0, task(90, TID, TaskEvent::Alive, "one", 4, 0)),
        (0, task(90, 71, TaskEvent::Alive, "new", 2, 0)),
    ];
    let mut resolver = Resolver::new();
    resolver.expect_snapshot([(TID, "/bin/one".to_owned())]);
    for (cpu, record) in &records {
        resolver.see_coming(*cpu, record);
    }
    let rows = resolve_with(resolver, records);
    let mut found: Vec<_> = faults(&rows)
        .iter()
        .map(|fault| {
            (
                fault.fault.time_ns,
                fault.thread.as_deref().unwrap_or("?").to_owned(),
                fault.program.as_deref().unwrap_or("?").to_owned(),
                fault
                    .place
                    .as_ref()
                    .map_or("?".to_owned(), |place| place.name.to_string()),
            )
        })
        .collect();
    found.sort();
    let row = |time_ns, thread: &str, program: &str, place: &str| {
        (
            time_ns,
            thread.to_owned(),
            program.to_owned(),
            place.to_owned(),
        )
    };
    let expected = [
        // Another CPU may have told of a new name before that.
        row(10, "?", "?", "/a"),
        row(20, "one", "/bin/one", "/a"),
        // What the number meant before is not told.
        row(25, "one", "/bin/one", "?"),
        row(30, "one", "/bin/one", "/b"),
        // What it was called before is not known.
        row(40, "?", "/bin/one", "?"),
        row(60, "new", "/bin/one", "?"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_fault_bears_the_program_of_its_process() {
    let with_path = |record, path: &str| match record {
        Record::Task(task) => Record::Task(Box::new(Task {
            path: path.into(),
            ..*task
        })),
        other => other,
    };
    let child = |record| match record {
        Record::Task(task) => Record::Task(Box::new(Task {
            pid: 80,
            from_id: TID,
            ..*task
        })),
        other => other,
    };
    let of = |pid: u32, time_ns| {
        let Record::Fault(record) = fault(time_ns, pid, 0x1000 * time_ns, 0, 0, 0) else {
            unreachable!();
        };
        Record::Fault(FaultRecord {
            header: record.header & !(u64::from(TID) << uapi::HEADER_TGID_SHIFT)
                | u64::from(pid) << uapi::HEADER_TGID_SHIFT,
            ..record
        })
    };
    let rows = resolve(
        [
            with_path(task(0, TID, TaskEvent::Present, "x", 0, 0), "/bin/x"),
            of(TID, 1),
            child(task(2, 80, TaskEvent::Fork, "x", 0, 0)),
            of(80, 3),
            with_path(child(task(4, 80, TaskEvent::Exec, "y", 0, 0)), "/bin/y"),
            of(80, 5),
            of(TID, 6),
        ]
        .map(|record| (0, record)),
    );
    let mut programs: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Fault(fault) => Some((fault.fault.time_ns, fault.program.as_deref())),
            _ => None,
        })
        .collect();
    programs.sort_unstable();
    assert_eq!(
        programs,
        [
            (1, Some("/bin/x")),
            (3, Some("/bin/x")),
            (5, Some("/bin/y")),
            (6, Some("/bin/x"))
        ]
    );
}

#[test]
fn low_bits_wrap_around() {
    let mut records = vec![task(0, TID, TaskEvent::Fork, "x", 0, 0)];
    records.extend((0..100).map(|n| fault(n + 1, TID, 0x1000 * n, 0, n / 2, n.div_ceil(2))));
    records.push(exit(200, TID, 50, 50));
    let rows = resolve(records.into_iter().map(|record| (0, record)));
    assert!(gaps(&rows).is_empty());
    let major = fates(&rows)
        .iter()
        .filter(|&&fate| fate == Fate::Major)
        .count();
    let minor = fates(&rows)
        .iter()
        .filter(|&&fate| fate == Fate::Minor)
        .count();
    assert_eq!((minor, major), (50, 50));
}

#[test]
fn missing_faults_are_a_gap() {
    let rows = resolve(
        [
            task(0, TID, TaskEvent::Fork, "x", 0, 0),
            fault(1, TID, 0x1000, 0, 0, 0),
            fault(2, TID, 0x2000, 0, 5, 0),
            exit(3, TID, 39, 1),
        ]
        .map(|record| (0, record)),
    );
    assert_eq!(fates(&rows), [Fate::Unknown, Fate::Unknown]);
    // Four between the faults; 34 and one major behind the second, which is one of them.
    assert_eq!(gaps(&rows), [4, 34]);
}

#[test]
fn a_fault_that_was_under_way_at_the_beginning_is_a_gap() {
    let rows = resolve(
        [
            task(0, TID, TaskEvent::Present, "x", 1000, 5),
            fault(1, TID, 0x1000, 0, 1001, 5),
            exit(2, TID, 1002, 5),
        ]
        .map(|record| (0, record)),
    );
    assert_eq!((fates(&rows), gaps(&rows)), (vec![Fate::Minor], vec![1]));
}

#[test]
fn a_name_that_another_thread_gives_does_not_tell_of_a_fault_under_way() {
    let rows = resolve(
        [
            task(0, TID, TaskEvent::Fork, "old", 0, 0),
            fault(1, TID, 0x1000, 0, 0, 0),
            task(2, TID, TaskEvent::Rename, "new", 0, 0),
            fault(3, TID, 0x2000, 0, 1, 0),
            task(4, TID, TaskEvent::Rename, "newer", 2, 0),
            exit(5, TID, 2, 0),
        ]
        .map(|record| (0, record)),
    );
    assert_eq!(fates(&rows), [Fate::Minor, Fate::Minor]);
    let names: Vec<_> = faults(&rows)
        .iter()
        .map(|fault| fault.thread.clone().unwrap())
        .collect();
    assert_eq!(names, ["old".into(), "new".into()] as [Name; 2]);
}

/// The tool that names a target reads the counters of its threads while they go on.
#[test]
fn a_thread_that_faults_while_it_is_reported_is_reported_as_of_its_first_fault() {
    // Two faults before the record that the process is a target now, whose counters count none, one or
    // both of them, or the one that is under way.
    for reported in 1000..1003 {
        let rows = resolve(
            [
                fault(1, TID, 0x1000, 0, 1000, 5),
                fault(2, TID, 0x2000, 0, 1001, 5),
                task(3, TID, TaskEvent::Present, "x", reported, 5),
                fault(4, TID, 0x3000, 0, 1002, 5),
                exit(5, TID, 1003, 5),
            ]
            .map(|record| (0, record)),
        );
        assert_eq!((fates(&rows), gaps(&rows)), (vec![Fate::Minor; 3], vec![]));
        let start = rows.iter().find_map(|row| match row {
            Row::Thread(row) if row.event == ThreadEvent::Present => Some(row.min_flt),
            _ => None,
        });
        // Of the faults, the first was given out before.
        assert_eq!(start, Some(1001), "reported {reported}");
    }
}

#[test]
fn a_thread_that_is_there_at_the_end_is_reported_up_to_there() {
    let at_end = |reported, more: Option<Record>| {
        let records = [
            task(0, TID, TaskEvent::Fork, "x", 0, 0),
            fault(1, TID, 0x1000, 0, 0, 0),
            fault(2, TID, 0x2000, 0, 1, 0),
            task(3, TID, TaskEvent::Alive, "x", reported, 0),
        ];
        let rows = resolve(records.into_iter().chain(more).map(|record| (0, record)));
        let end = rows.iter().find_map(|row| match row {
            Row::Thread(row) if row.event == ThreadEvent::Alive => Some(row.min_flt),
            _ => None,
        });
        (fates(&rows), gaps(&rows), end)
    };
    use Fate::{Minor, Unknown};
    // The second fault has completed; is under way; and was when the counters were read.
    assert_eq!(at_end(2, None), (vec![Minor, Minor], vec![], Some(2)));
    assert_eq!(at_end(1, None), (vec![Minor, Unknown], vec![], Some(1)));
    assert_eq!(at_end(0, None), (vec![Minor, Unknown], vec![], Some(1)));
    // Three more that are not there, or seventeen.
    for missing in [3, 17] {
        let (fates, gaps, end) = at_end(2 + missing, None);
        assert_eq!(
            (fates, gaps, end),
            (vec![Minor, Unknown], vec![missing], Some(2 + missing))
        );
    }
    // It goes on a little before nothing is recorded any more.
    let (fates, gaps, end) = at_end(1, Some(fault(4, TID, 0x3000, 0, 2, 0)));
    assert_eq!(
        (fates, gaps, end),
        (vec![Minor, Minor, Unknown], vec![], Some(1))
    );
    // One of which nothing is known is not emitted.
    let rows = resolve([(0, task(3, TID, TaskEvent::Alive, "x", 7, 0))]);
    assert!(rows.is_empty());
}

#[test]
fn a_thread_that_executes_becomes_the_first_of_its_process() {
    let exec = Record::Task(Box::new(Task {
        time_ns: 4,
        tid: TID,
        pid: TID,
        parent: 1,
        event: TaskEvent::Exec,
        comm: "new".into(),
        path: "/bin/new".into(),
        min_flt: 9,
        maj_flt: 0,
        from_id: 71,
    }));
    let rows = resolve(
        [
            task(0, TID, TaskEvent::Fork, "main", 0, 0),
            task(1, 71, TaskEvent::Fork, "worker", 7, 0),
            fault(2, 71, 0x1000, 0, 7, 0),
            exit(3, TID, 0, 0),
            task(3, TID, TaskEvent::Rename, "new", 8, 0),
            fault(3, TID, 0x5000, 0, 8, 0),
            exec,
            fault(5, TID, 0x1000, 0, 9, 0),
            exit(6, TID, 10, 0),
        ]
        .map(|record| (0, record)),
    );
    assert_eq!((fates(&rows), gaps(&rows)), (vec![Fate::Minor; 3], vec![]));
    let names = |fault: &ResolvedFault| {
        (
            fault.process.clone().unwrap(),
            fault.thread.clone().unwrap(),
        )
    };
    let of = |time| {
        *faults(&rows)
            .iter()
            .find(|fault| fault.fault.time_ns == time)
            .unwrap()
    };
    assert_eq!(names(of(2)), ("main".into(), "worker".into()));
    assert_eq!(names(of(3)), ("new".into(), "new".into()));
    assert_eq!(names(of(5)), ("new".into(), "new".into()));
}

/// `CLONE_PARENT` makes a child of the maker's parent.
#[test]
fn a_process_has_the_code_of_its_maker_whoever_its_parent_is() {
    const CODE: u32 = mapping_flag::FILE | mapping_flag::READ | mapping_flag::EXEC;
    let mut parents = mapping(1, 0x40000, 0, CODE, "/parent");
    if let Record::Mapping(mapping) = &mut parents {
        mapping.pid = 1;
    }
    let made = Record::Task(Box::new(Task {
        time_ns: 1,
        tid: 90,
        pid: 90,
        parent: 1,
        event: TaskEvent::Fork,
        comm: "made".into(),
        path: String::new(),
        min_flt: 0,
        maj_flt: 0,
        from_id: TID,
    }));
    let fault = Record::Fault(FaultRecord {
        header: 90
            | 90 << uapi::HEADER_TGID_SHIFT
            | uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT,
        time_ns: 2,
        address_counters: 0,
        ip_mapping: 0x40010,
    });
    let makers = mapping(0, 0x40000, 0, CODE, "/maker");
    let rows = resolve([parents, makers, made, fault].map(|record| (0, record)));
    let code = faults(&rows)[0].code.as_ref().expect("known code");
    assert_eq!((&*code.object.name, code.offset), ("/maker", 0x10));
}

#[test]
fn mappings_are_those_of_the_same_cpu_at_that_time() {
    let file = mapping_flag::FILE | mapping_flag::READ | mapping_flag::EXEC;
    let exec = fault_flag::FILE | fault_flag::INSTRUCTION;
    let rows = resolve([
        (0, mapping(300, 0x10000, 0x2000, file, "/bin/a")),
        (1, mapping(300, 0x10000, 0, mapping_flag::WRITE, "")),
        (0, in_mapping(1, 70, 0x10123, exec, 0, 0, 300)),
        (1, in_mapping(2, 71, 0x10456, fault_flag::WRITE, 0, 0, 300)),
        (0, mapping(300, 0x10000, 0, file, "/bin/b")),
        (0, in_mapping(3, 72, 0x10789, exec, 0, 0, 300)),
        (2, in_mapping(4, 73, 0x10789, exec, 0, 0, 300)),
        (
            0,
            in_mapping(5, 74, 0x10789, exec, 0, 0, uapi::MAPPING_UNKNOWN),
        ),
    ]);
    let places: Vec<_> = faults(&rows)
        .iter()
        .map(|fault| {
            let place = fault.place.as_ref()?;
            Some((
                place.name.to_string(),
                place.permissions.to_string(),
                place.file_offset,
            ))
        })
        .collect();
    assert_eq!(
        places,
        [
            Some(("/bin/a".into(), "r-xp".into(), Some(0x2123))),
            Some(("[anon]".into(), "-w-p".into(), None)),
            Some(("/bin/b".into(), "r-xp".into(), Some(0x789))),
            None,
            None,
        ]
    );
    assert_eq!(faults(&rows)[1].kind, Kind::ZeroFill);
}

#[test]
fn numbers_from_before_an_overrun_mean_nothing_behind_it() {
    let overrun = Record::Overrun(Overrun {
        since_ns: 1,
        until_ns: 3,
        slots: 7,
    });
    let rows = resolve([
        (0, mapping(300, 0x10000, 0, mapping_flag::READ, "/bin/a")),
        (1, mapping(300, 0x10000, 0, mapping_flag::READ, "/bin/b")),
        (0, in_mapping(1, 70, 0x10123, 0, 0, 0, 300)),
        (0, overrun),
        (0, in_mapping(3, 71, 0x10456, 0, 0, 0, 300)),
        (1, in_mapping(4, 72, 0x10789, 0, 0, 0, 300)),
    ]);
    let names: Vec<_> = faults(&rows)
        .iter()
        .map(|fault| fault.place.as_ref().map(|place| place.name.to_string()))
        .collect();
    assert_eq!(names, [Some("/bin/a".into()), None, Some("/bin/b".into())]);
    assert!(rows.iter().any(|row| row.event() == "overrun"));
}

#[test]
fn faults_that_wait_are_reported_once() {
    let mut resolver = Resolver::new();
    let mut out = Vec::new();
    resolver.push(0, fault(5, TID, 0x1000, 0, 0, 0), &mut out);
    for _ in 0..2 {
        resolver.pending(&mut out);
    }
    resolver.finish(&mut out);
    let events: Vec<_> = out.iter().map(Row::event).collect();
    assert_eq!(events, ["pending", "fault"]);
}

#[test]
fn names_that_nothing_uses_are_forgotten() {
    let mut names = Names::default();
    let kept = names.of("kept");
    for n in 0..2 * NAMES_MOST {
        names.of(&n.to_string());
    }
    assert!(names.0.len() <= NAMES_MOST + 1);
    assert!(Arc::ptr_eq(&kept, &names.of("kept")));
}

proptest! {
    /// However faults are dropped, those found and the gaps add up to the counters.
    #[test]
    fn gaps_and_faults_add_up(
        faults in prop::collection::vec((0..4u32, any::<bool>(), 0..10u8), 0..200),
    ) {
        let mut counters = [(0u64, 0u64); 4];
        let mut records: Vec<_> =
            (0..4).map(|n| (0, task(0, TID + n, TaskEvent::Fork, "x", 0, 0))).collect();
        let mut kept = 0;
        for (time, (thread, major, drop)) in (1..).zip(faults) {
            let (min, maj) = counters[thread as usize];
            if drop != 0 {
                kept += 1;
                records.push((0, fault(time, TID + thread, time << 12, 0, min, maj)));
            }
            counters[thread as usize] = if major { (min, maj + 1) } else { (min + 1, maj) };
        }
        for (n, (min, maj)) in (0..).zip(counters) {
            records.push((0, exit(1000, TID + n, min, maj)));
        }
        let rows = resolve(records);
        let total: u64 = counters.iter().map(|(min, maj)| min + maj).sum();
        prop_assert_eq!(fates(&rows).len(), kept);
        let gaps: u64 = gaps(&rows).iter().sum();
        prop_assert_eq!(gaps % 16, (total - kept as u64) % 16);
        prop_assert_eq!(gaps, total - kept as u64);
    }
}
