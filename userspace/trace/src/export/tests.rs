// SPDX-License-Identifier: GPL-2.0-only

//! A small trace in each format.

use std::{collections::HashMap, convert::Infallible, io, sync::Arc};

use arrow_array::{cast::AsArray as _, types::Int16Type, Array as _};
use fault_tracer_uapi::fault_flag;
use inferno::{
    collapse::{
        perf::{Folder, Options as CollapseOptions},
        Collapse as _,
    },
    flamegraph,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{json, Value};

use super::{export, Ended, Format, Symbol, Symbols};
use crate::{
    csv, About, Access, Code, Counter, CounterRow, Fate, Fault, Kind, Loss, LostRow, Object, Place,
    ResolvedFault, Row, TextRow, ThreadEvent, ThreadRow,
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

fn object() -> Arc<Object> {
    Arc::new(Object {
        name: "/bin/cc1".into(),
        build_id: Some("abcd".into()),
        bias: Some(0),
    })
}

/// Knows the code of the second fault only.
struct One;

impl Symbols for One {
    fn symbol(&mut self, code: &Code, time_ns: u64) -> Option<Symbol> {
        assert_eq!(code.object, object());
        (time_ns == 2).then(|| Symbol {
            name: "f(int, char)".into(),
            offset: 0x10,
        })
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
        code: mapping.map(|_| Code {
            object: object(),
            offset: 0x1000,
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
        Row::Text(Box::new(TextRow {
            time_ns: 1,
            cpu: 1,
            pid: 70,
            tid: 71,
            address: 0x40_0000,
            file_offset: 0,
            object: object(),
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
    String::from_utf8(bytes(format)).unwrap()
}

fn bytes(format: Format) -> Vec<u8> {
    bytes_of(rows(), format)
}

fn bytes_of(rows: Vec<Row>, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    let rows = rows.into_iter().map(Ok::<_, Infallible>);
    assert!(matches!(
        export(format, &about(), rows, &mut One, &mut out),
        Ended::Rows(None)
    ));
    out
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
         \"/a,\"\"b\"\"\",r-xp,4660,/bin/cc1,4096,,,"
    );
    assert!(lines[2].ends_with(",/bin/cc1,4096,\"f(int, char)\",16,1500"));
    assert!(lines[4].ends_with(",unknown,,,,,,,,"));
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
    assert_eq!(lines[1]["event"], "text");
    assert_eq!(lines[1]["build_id"], "abcd");
    assert_eq!(lines[3]["fate"], "major");
    assert_eq!(lines[3]["mapping"], "/a,\"b\"");
    assert_eq!(lines[3]["address"], "0x7f0000001002");
    assert_eq!(lines[3]["object"], "/bin/cc1");
    assert_eq!(lines[3]["ip_offset"], 0x1000);
    assert_eq!(lines[3]["symbol"], "f(int, char)");
    assert_eq!(lines[3]["symbol_offset"], 16);
    assert!(lines[4].get("symbol").is_none());
    assert!(lines[5].get("mapping").is_none());
    assert_eq!(lines[3]["duration_ns"], 1500);
    assert!(lines[4].get("duration_ns").is_none());
    assert_eq!(
        (&lines[6]["count"], &lines[6]["end_ns"]),
        (&7.into(), &6.into())
    );
}

#[test]
fn folded_counts_faults_once() {
    assert_eq!(
        text(Format::Folded),
        "make;cc1: \"x\";[unknown];[unknown] 1\n\
         make;cc1: \"x\";/a,\"b\";[cc1] 1\n\
         make;cc1: \"x\";/a,\"b\";f(int, char) 1\n"
    );
}

#[test]
fn folded_is_what_inferno_draws() {
    let text = text(Format::Folded);
    let mut options = flamegraph::Options::default();
    let mut picture = Vec::new();
    flamegraph::from_lines(&mut options, text.lines(), &mut picture).unwrap();
    let picture = String::from_utf8(picture).unwrap();
    for (frame, faults) in [("make", 3), ("/a,&quot;b&quot;", 2), ("f(int, char)", 1)] {
        let title = format!("<title>{frame} ({faults} samples");
        assert!(picture.contains(&title), "{title} in {picture}");
    }
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
    assert_eq!(of("i").len(), 3 + 1, "faults, the exec");
    let lost = [of("b"), of("e")].concat();
    assert_eq!(lost.len(), 2, "the loss, from its first to its last");
    assert_eq!([&lost[0]["ts"], &lost[1]["ts"]], [0.005, 0.006]);
    assert_eq!(lost[0]["args"]["faults"], 7);
    for entry in ["cat", "id", "name"] {
        assert_eq!(lost[0][entry], lost[1][entry]);
    }
    let slices = of("X");
    assert_eq!(slices.len(), 1, "the fault whose duration is known");
    assert_eq!(slices[0]["dur"], 1.5);
    assert!(slices[0].get("s").is_none());
    let rates = of("C");
    assert_eq!(rates.len(), 2, "a rate, and its end");
    assert_eq!(rates[0]["args"]["minor"], 100);
    assert_eq!(rates[0]["args"]["major"], 100);
    assert_eq!(rates[0]["args"]["other"], 100);
    assert_eq!(rates[1]["args"]["major"], 0);
    assert_eq!(of("M").len(), 2);
    assert_eq!(trace["metadata"]["faults_shown_one_by_one"], 4);
}

#[test]
fn perfetto_has_rates_of_what_a_process_ever_has() {
    let minor = vec![fault(3, None, Fate::Minor)];
    let trace: Value = serde_json::from_slice(&bytes_of(minor, Format::Perfetto)).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let rates: Vec<_> = events.iter().filter(|event| event["ph"] == "C").collect();
    assert_eq!(rates.len(), 2);
    for (rate, minor) in rates.iter().zip([100, 0]) {
        assert_eq!(rate["args"], json!({ "minor": minor }));
    }
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
            "0.000000:",
            "1",
            "major-faults:"
        ]
    );
    assert_eq!(lines[1].trim(), "401000 f(int, char)+0x10 (/bin/cc1)");
    let frame = events[1].lines().nth(1).unwrap().trim();
    assert_eq!(frame, "401000 [unknown] (/bin/cc1)");
}

#[test]
fn perf_script_is_what_inferno_collapses() {
    let text = text(Format::PerfScript);
    let count = |event: &str| {
        let mut options = CollapseOptions::default();
        options.include_pid = true;
        options.include_tid = true;
        options.event_filter = Some(event.into());
        let mut stacks = Vec::new();
        Folder::from(options)
            .collapse(text.as_bytes(), &mut stacks)
            .unwrap();
        String::from_utf8(stacks).unwrap()
    };
    assert_eq!(count("major-faults"), "cc1;_\"x\"-70/71;f 1\n");
    assert_eq!(count("minor-faults"), "cc1;_\"x\"-70/71;[cc1] 1\n");
    assert_eq!(count("page-faults"), "cc1;_\"x\"-70/71;[unknown] 1\n");
}

#[test]
fn parquet_has_all_rows_and_the_symbols() {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes(Format::Parquet)))
            .unwrap();
    let metadata = reader.schema().metadata().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let [batch] = &batches[..] else {
        panic!("{} batches", batches.len());
    };
    assert_eq!(metadata["command"], "make");
    assert_eq!(batch.num_rows(), rows().len());
    let ip = batch.column_by_name("ip").unwrap();
    let ip = ip.as_primitive::<arrow_array::types::UInt64Type>();
    assert_eq!(ip.value(3), 0x40_1000);
    let symbols = batch.column_by_name("symbol").unwrap();
    let symbols = symbols.as_dictionary::<Int16Type>();
    let symbols = symbols.downcast_dict::<arrow_array::StringArray>().unwrap();
    let named: HashMap<_, _> = (0..batch.num_rows())
        .filter(|&row| !batch.column_by_name("symbol").unwrap().is_null(row))
        .map(|row| (row, arrow_array::ArrayAccessor::value(&symbols, row)))
        .collect();
    assert_eq!(named, HashMap::from([(3, "f(int, char)")]));
}

#[test]
fn an_error_among_the_rows_leaves_a_whole_output() {
    let mut out = Vec::new();
    let rows = [Ok(fault(1, None, Fate::Minor)), Err("cut off")];
    let ended = export(Format::Perfetto, &about(), rows, &mut (), &mut out);
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
    for format in Format::ALL {
        let rows = rows().into_iter().map(Ok::<_, Infallible>);
        let ended = export(format, &about(), rows, &mut (), &mut Full);
        assert!(matches!(ended, Ended::Output(_)), "{format:?}");
    }
}
