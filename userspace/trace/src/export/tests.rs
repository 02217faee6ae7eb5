// SPDX-License-Identifier: GPL-2.0-only

//! A small trace in each format.

use std::{convert::Infallible, io};

use fault_tracer_uapi::fault_flag;
use serde_json::Value;

use super::{export, Ended, Format};
use crate::{
    csv, About, Access, Counter, CounterRow, Fate, Fault, Kind, Loss, LostRow, Place,
    ResolvedFault, Row, ThreadEvent, ThreadRow,
};

fn about() -> About {
    About {
        version: "1.2.3".into(),
        kernel: "Linux".into(),
        command: "make".into(),
        clock: "CLOCK_MONOTONIC".into(),
        ..About::default()
    }
}

fn fault(time_ns: u64, mapping: Option<&str>, fate: Fate) -> Row {
    Row::Fault(Box::new(ResolvedFault {
        fault: Fault {
            time_ns,
            cpu: 1,
            pid: 70,
            tid: 71,
            address: 0x7f00_0000_1000 + time_ns,
            ip: 0x40_1000,
            access: Access::Execute,
            flags: (fault_flag::FILE | fault_flag::USER) as u16,
        },
        process: Some("make".into()),
        thread: Some("cc1; \"x\"".into()),
        place: mapping.map(|name| Place {
            name: name.into(),
            permissions: "r-xp".into(),
            file_offset: Some(0x1234),
        }),
        kind: Kind::FileExecute,
        fate,
        duration_ns: (time_ns == 2).then_some(1500),
    }))
}

fn rows() -> Vec<Row> {
    let counter = |counter, count| {
        Row::Counter(CounterRow {
            counter,
            time_ns: 9,
            cpu: None,
            count,
        })
    };
    vec![
        Row::Thread(Box::new(ThreadRow {
            event: ThreadEvent::Exec,
            time_ns: 0,
            cpu: 1,
            pid: 70,
            tid: 71,
            process: Some("make".into()),
            thread: Some("cc1; \"x\"".into()),
            program: Some("/bin/cc1".into()),
            parent: Some(1),
            old_tid: Some(71),
            min_flt: 0,
            maj_flt: 0,
        })),
        fault(1, Some("/a,\"b\""), Fate::Retried),
        fault(2, Some("/a,\"b\""), Fate::Major),
        fault(3, Some("/a,\"b\""), Fate::Minor),
        fault(4, None, Fate::Unknown),
        Row::Lost(LostRow {
            how: Loss::Dropped,
            cpu: 3,
            time_ns: 5,
            end_ns: 6,
            count: 7,
        }),
        counter(Counter::Hits, 11),
        counter(Counter::Recorded, 4),
        counter(Counter::Dropped, 7),
        counter(Counter::End, 4),
    ]
}

fn text(format: Format) -> String {
    let mut out = Vec::new();
    let rows = rows().into_iter().map(Ok::<_, Infallible>);
    assert!(matches!(
        export(format, &about(), rows, &mut out),
        Ended::Rows(None)
    ));
    String::from_utf8(out).unwrap()
}

#[test]
fn csv_has_the_columns_of_drain_and_more() {
    let text = text(Format::Csv);
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines[0].starts_with(&format!("{},process,", csv::HEADER)));
    assert_eq!(lines.len(), 5);
    assert_eq!(
        lines[1],
        "1,1,70,71,0x7f0000001001,0x401000,x,file|user,make,\"cc1; \"\"x\"\"\",file-exec,retried,\
         \"/a,\"\"b\"\"\",r-xp,4660,"
    );
    assert!(lines[2].ends_with(",4660,1500"));
    assert!(lines[4].ends_with(",unknown,,,,"));
    assert!(text.ends_with(
        "# hits=11 recorded=4 dropped=7 overwritten=0 missed=0\n\
         # lost: dropped=7 overwritten=0 missed=0\n"
    ));
}

#[test]
fn jsonl_has_a_line_for_each_row() {
    let text = text(Format::Jsonl);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), rows().len());
    assert_eq!(lines[0]["event"], "exec");
    assert_eq!(lines[0]["program"], "/bin/cc1");
    assert_eq!(lines[2]["fate"], "major");
    assert_eq!(lines[2]["mapping"], "/a,\"b\"");
    assert_eq!(lines[2]["duration_ns"], 1500);
    assert!(lines[3].get("duration_ns").is_none());
    assert_eq!(lines[2]["address"], "0x7f0000001002");
    assert!(lines[4].get("mapping").is_none());
    assert_eq!(
        (&lines[5]["count"], &lines[5]["end_ns"]),
        (&7.into(), &6.into())
    );
}

#[test]
fn folded_counts_faults_once() {
    assert_eq!(
        text(Format::Folded),
        "make;cc1: \"x\";[unknown] 1\nmake;cc1: \"x\";/a,\"b\" 2\n"
    );
}

#[test]
fn perfetto_is_json_with_rates_instants_slices_and_names() {
    let trace: Value = serde_json::from_str(&text(Format::Perfetto)).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |phase: &str| {
        events
            .iter()
            .filter(|event| event["ph"] == phase)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("i").len(), 3 + 1 + 1, "faults, the exec, the loss");
    let slices = of("X");
    assert_eq!(slices.len(), 1, "the fault whose duration is known");
    assert_eq!(slices[0]["dur"], 1.5);
    assert!(slices[0].get("s").is_none());
    let rates = of("C");
    assert_eq!(rates.len(), 2, "a rate, and its end");
    assert_eq!(rates[0]["args"]["minor"], 100);
    assert_eq!(rates[0]["args"]["major"], 100);
    assert_eq!(rates[1]["args"]["major"], 0);
    assert_eq!(of("M").len(), 2);
    assert_eq!(trace["metadata"]["faults_shown_one_by_one"], 4);
}

#[test]
fn perf_script_has_an_event_a_frame_and_an_empty_line() {
    let text = text(Format::PerfScript);
    let events: Vec<_> = text.split("\n\n").collect();
    assert_eq!(events.len(), 4, "three, and nothing behind the last");
    let lines: Vec<_> = events[0].lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        [
            "cc1;",
            "\"x\"",
            "70/71",
            "[001]",
            "0.000000002:",
            "1",
            "major-faults:",
            "7f0000001002"
        ]
    );
    assert_eq!(lines[1].trim(), "401000 [unknown] (/a,\"b\")");
}

#[test]
fn an_error_among_the_rows_leaves_a_whole_output() {
    let mut out = Vec::new();
    let rows = [Ok(fault(1, None, Fate::Minor)), Err("cut off")];
    let ended = export(Format::Perfetto, &about(), rows, &mut out);
    assert!(matches!(ended, Ended::Rows(Some("cut off"))));
    assert!(serde_json::from_slice::<Value>(&out).is_ok());
}

#[test]
fn an_output_that_cannot_be_written_is_told() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for format in [
        Format::Csv,
        Format::Jsonl,
        Format::Folded,
        Format::Perfetto,
        Format::PerfScript,
    ] {
        let rows = rows().into_iter().map(Ok::<_, Infallible>);
        let ended = export(format, &about(), rows, &mut Full);
        assert!(matches!(ended, Ended::Output(_)), "{format:?}");
    }
}
