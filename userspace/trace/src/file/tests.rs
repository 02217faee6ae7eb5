// SPDX-License-Identifier: GPL-2.0-only

//! What is written is read back, and whatever a file holds, reading it ends with a message.

use std::sync::Arc;

use fault_tracer_uapi::fault_flag;
use proptest::prelude::*;

use super::{schema::BATCH_ROWS, ReadError, Reader, Writer};
use crate::{
    Access, BuildId, Code, Counter, CounterRow, Fate, Fault, FileId, FrameRow, GapRow, Kind, Loss,
    LostRow, Metadata, Name, Nodes, Object, PageSize, Place, ResolvedFault, Row, TextRow,
    ThreadEvent, ThreadRow, OUTERMOST, UNKNOWN_CALLER,
};

pub fn metadata() -> Metadata {
    Metadata {
        version: "1.2.3".into(),
        host: "machine".into(),
        kernel: "Linux 7.2.12 x86_64".into(),
        command: "ls -l".into(),
        clock: "CLOCK_MONOTONIC".into(),
        wall_offset_ns: -5,
        wall_error_ns: 3,
        latency: true,
        attempts_apart: true,
        selection: "only write".into(),
        nodes: Nodes::parse("0:0-1 1:2-3").unwrap(),
        page_size: PageSize::of_bytes(64 << 10).unwrap(),
        account: None,
    }
}

fn name(text: &str) -> Name {
    Arc::from(text)
}

/// Where the code is mapped of which some faults are.
fn text() -> TextRow {
    TextRow {
        time_ns: 0,
        cpu: 1,
        pid: 70,
        tid: 70,
        address: 0x7f00_0000_2000,
        file_offset: 0x1000,
        object: Arc::new(Object {
            name: name("/lib/code.so"),
            build_id: BuildId::Of(name("0123456789abcdef")),
            bias: Some(0x40_0000),
            file: Some(FileId {
                device: 8 << 32 | 1,
                inode: 1234,
                changed_ns: Some(-5),
            }),
        }),
    }
}

fn fault(time_ns: u64) -> Box<ResolvedFault> {
    Box::new(ResolvedFault {
        fault: Fault {
            time_ns,
            cpu: (time_ns % 3) as u32,
            pid: 70,
            tid: 70 + (time_ns % 5) as u32,
            address: time_ns << 12,
            ip: if time_ns % 4 == 3 {
                text().base() + time_ns
            } else {
                u64::MAX >> 8
            },
            access: Access::ALL[time_ns as usize % 3],
            flags: (fault_flag::USER | fault_flag::FILE) as u16,
        },
        process: (time_ns % 7 != 0).then(|| name("make")),
        thread: Some(name(&format!("cc{}", time_ns % 11))),
        program: (time_ns % 9 != 0).then(|| name(&format!("/bin/{}", time_ns % 3))),
        place: (time_ns % 4 != 0).then(|| Place {
            name: name(&format!("/lib/{}.so", time_ns % 13)),
            permissions: name("r-xp"),
            file_offset: (time_ns % 2 == 0).then_some(time_ns),
        }),
        code: (time_ns % 4 == 3).then(|| Code {
            object: text().object,
            offset: time_ns,
        }),
        kind: Kind::ALL[time_ns as usize % Kind::ALL.len()],
        fate: Fate::ALL[time_ns as usize % Fate::ALL.len()],
        attempts: 1 + (time_ns % 4) as u32,
        returns: (time_ns % 2) as u32,
        duration_ns: (time_ns % 6 != 0).then_some(time_ns * 100),
        page_bytes: (time_ns % 5 != 0).then_some(4096 << (time_ns % 10)),
        page_node: (time_ns % 3 != 0).then_some((time_ns % 7) as u32),
        around: (time_ns % 8 < 3).then_some((time_ns % 16) as u32),
        stack: (time_ns % 3 != 0).then_some((time_ns % 8) as u32),
    })
}

fn frame(id: u32, caller: u32) -> Row {
    let is_code = id % 2 == 0;
    Row::Frame(Box::new(FrameRow {
        time_ns: text().time_ns,
        cpu: 1,
        pid: 70,
        tid: 71,
        id,
        caller,
        address: if is_code {
            text().base() + u64::from(id)
        } else {
            0xffff
        },
        code: is_code.then(|| Code {
            object: text().object,
            offset: id.into(),
        }),
    }))
}

pub fn rows(faults: u64) -> Vec<Row> {
    let mut rows = vec![Row::Text(Box::new(text()))];
    rows.extend([frame(2, OUTERMOST), frame(3, 2), frame(4, UNKNOWN_CALLER)]);
    rows.extend((1..=faults).map(|time| Row::Fault(fault(time))));
    let mut time_ns = faults;
    let mut next = || {
        time_ns += 1;
        time_ns
    };
    for event in [
        ThreadEvent::Present,
        ThreadEvent::Fork,
        ThreadEvent::Exec,
        ThreadEvent::Rename,
        ThreadEvent::Exit,
        ThreadEvent::Alive,
    ] {
        let own = event == ThreadEvent::Exec;
        rows.push(Row::Thread(Box::new(ThreadRow {
            event,
            time_ns: next(),
            cpu: 2,
            pid: 70,
            tid: 71,
            process: Some(name("make")),
            thread: None,
            program: own.then(|| name("/bin/make")),
            parent: (event != ThreadEvent::Exit).then_some(1),
            old_tid: own.then_some(72),
            min_flt: u64::MAX,
            maj_flt: 0,
        })));
    }
    rows.push(Row::Gap(GapRow {
        time_ns: next(),
        end_ns: 1 << 40,
        cpu: 0,
        pid: 70,
        tid: 71,
        count: 3,
    }));
    for how in [Loss::Dropped, Loss::Overwritten] {
        rows.push(Row::Lost(LostRow {
            how,
            cpu: 1,
            time_ns: next(),
            end_ns: 1 << 41,
            count: 9,
        }));
    }
    for (counter, cpu) in [
        (Counter::Hits, Some(1)),
        (Counter::Recorded, Some(1)),
        (Counter::Dropped, Some(1)),
        (Counter::Overwritten, Some(1)),
        (Counter::Missed, None),
        (Counter::SidebandDropped, Some(1)),
        (Counter::MissedReturns, None),
        (Counter::End, None),
    ] {
        rows.push(Row::Counter(CounterRow {
            counter,
            time_ns: next(),
            cpu,
            count: faults,
        }));
    }
    rows
}

/// A trace, with a batch for each so many rows.
fn written(rows: &[Row], batch: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &metadata()).unwrap();
    for rows in rows.chunks(batch) {
        for row in rows {
            writer.push(row).unwrap();
        }
        writer.flush().unwrap();
    }
    let counted = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, counted);
    bytes
}

/// What comes out, and what it ends with.
pub fn read(bytes: &[u8]) -> (Vec<Row>, Option<ReadError>) {
    let reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut rows = Vec::new();
    for row in reader {
        match row {
            Ok(row) => rows.push(row),
            Err(error) => return (rows, Some(error)),
        }
    }
    (rows, None)
}

#[test]
fn what_is_written_is_read_back() {
    for (faults, batch) in [(0, 1), (100, 7), (3 * BATCH_ROWS as u64, usize::MAX)] {
        let rows = rows(faults);
        let bytes = written(&rows, batch);
        let (back, error) = read(&bytes);
        assert!(error.is_none(), "{error:?}");
        assert!(back == rows, "{faults} faults");
        assert_eq!(*Reader::new(&bytes[..]).unwrap().metadata(), metadata());
    }
}

#[test]
fn a_size_that_no_pages_have_is_refused() {
    let bytes = written(&rows(3), 1);
    let told = b"65536\0";
    let at = bytes.windows(told.len()).position(|part| part == told);
    let at = at.expect("the metadata says it");
    for odd in [b"65537", b"32769", b"16 KB", b"00512"] {
        let mut damaged = bytes.clone();
        damaged[at..at + 5].copy_from_slice(odd);
        let (rows, error) = read(&damaged);
        assert!(
            matches!(error, Some(ReadError::PageSize { .. })),
            "{error:?}"
        );
        assert!(rows.is_empty());
        let message = error.unwrap().to_string();
        assert!(message.contains("from 4096 to 65536"), "{message}");
    }
    // As a trace of an older version: it has another key.
    let key = b"page_bytes\0";
    let at = bytes.windows(key.len()).position(|part| part == key);
    let mut older = bytes.clone();
    older[at.unwrap()] = b'P';
    let metadata = Reader::new(&older[..]).unwrap().metadata().clone();
    assert_eq!(metadata.page_size, PageSize::default());
}

#[test]
fn a_trace_without_rows_is_one() {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, &metadata())
        .unwrap()
        .finish()
        .unwrap();
    let (rows, error) = read(&bytes);
    assert!(rows.is_empty() && error.is_none(), "{error:?}");
}

/// As many names as a batch can have, few of them in the next.
#[test]
fn names_are_forgotten_that_are_no_longer_used() {
    let named = |time_ns: u64, name: String| {
        Row::Fault(Box::new(ResolvedFault {
            thread: Some(name.into()),
            code: None,
            ..*fault(time_ns)
        }))
    };
    let many = 0..BATCH_ROWS as u64;
    let mut rows: Vec<_> = many.map(|n| named(n, format!("thread {n}"))).collect();
    for n in 0..BATCH_ROWS as u64 {
        rows.push(named(n, format!("thread {}", n % 1000)));
    }
    rows.extend((0..1000).map(|n| named(n, format!("new {}", n % 10))));
    let (back, error) = read(&written(&rows, BATCH_ROWS));
    assert!(error.is_none(), "{error:?}");
    assert!(back == rows);
}

#[test]
fn pending_faults_come_out_once() {
    let fault_1 = fault(1);
    let settled = [
        Row::Pending(fault_1.clone()),
        Row::Pending(fault(2)),
        Row::Fault(fault_1.clone()),
    ];
    let (back, error) = read(&written(&settled, 1));
    assert!(error.is_none());
    let unknown = Box::new(ResolvedFault {
        fate: Fate::Unknown,
        ..*fault(2)
    });
    assert_eq!(back, [Row::Fault(fault_1.clone()), Row::Fault(unknown)]);

    // The recording goes on in another file, where the second one is.
    let end = Row::Counter(CounterRow {
        counter: Counter::End,
        time_ns: 3,
        cpu: None,
        count: 1,
    });
    let (back, error) = read(&written(
        &[&settled[..], std::slice::from_ref(&end)].concat(),
        1,
    ));
    assert!(error.is_none());
    assert_eq!(back, [Row::Fault(fault_1), end]);
}

#[test]
fn offsets_tell_instruction_pointers_from_the_last_text_on() {
    let moved = TextRow {
        time_ns: 10,
        address: 0x7e00_0000_2000,
        ..text()
    };
    let mut second = fault(11);
    second.fault.ip = moved.base() + 11;
    let rows = [
        Row::Text(Box::new(text())),
        Row::Fault(fault(3)),
        Row::Text(Box::new(moved)),
        Row::Fault(second),
    ];
    for batch in [1, 4] {
        let (back, error) = read(&written(&rows, batch));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(back, rows);
    }
    let (_, error) = read(&written(&rows[1..2], 1));
    let message = error.expect("nothing tells it").to_string();
    assert!(
        message.contains("without an instruction pointer"),
        "{message}"
    );
}

#[test]
fn build_ids_are_those_of_each_text() {
    let of = |time_ns, path, build_id: BuildId| {
        Row::Text(Box::new(TextRow {
            time_ns,
            object: Arc::new(Object {
                name: name(path),
                build_id,
                bias: None,
                file: None,
            }),
            ..text()
        }))
    };
    let id = |digits| BuildId::Of(name(digits));
    let rows = [
        of(1, "/a", id("12")),
        of(2, "/b", BuildId::Absent),
        of(3, "/a", id("12")),
        of(4, "/a", BuildId::Unread),
        of(5, "/b", id("34")),
        of(6, "/a", id("12")),
        of(7, "/a", BuildId::Absent),
    ];
    for batch in [1, 7] {
        let (back, error) = read(&written(&rows, batch));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(back, rows);
    }
}

#[test]
fn a_trace_that_is_cut_off_is_read_as_far_as_it_goes() {
    let rows = rows(60);
    let bytes = written(&rows, 10);
    let mut most = 0;
    for length in (0..bytes.len()).step_by(41).chain([bytes.len() - 8]) {
        let (back, error) = read(&bytes[..length]);
        assert!(rows.starts_with(&back), "{length}");
        assert!(back.len() >= most);
        most = back.len();
        let message = error.expect("cut off").to_string();
        assert!(
            message.contains("cut off") || message.contains("no trace"),
            "{length}: {message}"
        );
    }
    assert_eq!(most, rows.len(), "only the end mark is missing in the end");
}

#[test]
fn other_files_are_refused() {
    let others: [&[u8]; 6] = [
        b"",
        b"time_ns,cpu,pid\n1,2,3\n",
        b"ARROW1\0\0\xff\xff\xff\xff\0\0\0\0",
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f________",
        &[0x7f; 4096],
    ];
    for other in others {
        let (_, error) = read(other);
        assert!(
            matches!(error, Some(ReadError::NotOurs { .. })),
            "{error:?}"
        );
    }
    for (other, what) in [
        (&b"PAR1\x15\0\x15\x04"[..], "Parquet"),
        (b"ARROW1\0\0", "Arrow file"),
        (b"PERFILE2", "perf"),
        (b"something", "no frame"),
    ] {
        let (_, error) = read(other);
        assert!(error.unwrap().to_string().contains(what), "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Damage may go unnoticed (the format has no checksums), but reading ends, without a panic that
    /// would come through.
    #[test]
    fn flipped_bits_do_no_harm(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4)) {
        let rows = rows(40);
        let mut bytes = written(&rows, 20);
        for (index, bit) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;
        }
        let (back, error) = read(&bytes);
        prop_assert!(back.len() <= rows.len() + BATCH_ROWS);
        // Whatever is wrong is said on one line.
        let said = error.map_or_else(String::new, |error| error.to_string());
        prop_assert!(!said.contains('\n'), "{}", said);
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).1.is_some());
    }
}
