// SPDX-License-Identifier: GPL-2.0-only

//! A small trace in each format.

use std::{convert::Infallible, io, sync::Arc};

use arrow_array::{
    cast::AsArray as _,
    types::{Int32Type, Int64Type, TimestampNanosecondType},
    Array as _, RecordBatch,
};
use arrow_ipc::reader::FileReader;
use arrow_schema::{DataType, Schema, TimeUnit};
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

use super::{export, Band, Bands, Ended, Format, Options, Symbol, Symbols, Weight};
use crate::{
    csv, Access, BuildId, Code, Counter, CounterRow, Fate, Fault, FileId, FrameRow, Kind, Loss,
    LostRow, Metadata, Object, PageSize, Place, ResolvedFault, Row, TextRow, ThreadEvent,
    ThreadRow, OUTERMOST, UNKNOWN_CALLER,
};

fn metadata() -> Metadata {
    Metadata {
        version: "1.2.3".into(),
        kernel: "Linux".into(),
        command: "make".into(),
        clock: "CLOCK_MONOTONIC".into(),
        wall_offset_ns: 1_000_000_000,
        ..Metadata::default()
    }
}

fn object() -> Arc<Object> {
    Arc::new(Object {
        name: "/bin/cc1".into(),
        build_id: BuildId::Of("abcd".into()),
        bias: Some(0),
        file: Some(FileId {
            device: 8 << 32 | 1,
            inode: 77,
            changed_ns: Some(5),
        }),
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
            bytes: None,
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
        program: Some("/usr/bin/make".into()),
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
        attempts: 2,
        returns: 2 * u32::from(time_ns == 2),
        duration_ns: (time_ns == 2).then_some(1500),
        page_bytes: (time_ns == 2).then_some(1 << 21),
        page_node: (time_ns == 2).then_some(3),
        around: (time_ns == 2).then_some(15),
        stack: None,
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

/// The faults alone.
const FAULTS: Options = Options {
    events: false,
    comments: false,
    weight: Weight::Faults,
    microseconds: false,
};

/// All rows.
const EVENTS: Options = Options {
    events: true,
    ..FAULTS
};

fn text(format: Format) -> String {
    text_with(format, FAULTS)
}

fn text_with(format: Format, options: Options) -> String {
    String::from_utf8(bytes_with(format, options)).unwrap()
}

fn bytes_with(format: Format, options: Options) -> Vec<u8> {
    bytes_of(rows(), format, options)
}

fn bytes_of(rows: Vec<Row>, format: Format, options: Options) -> Vec<u8> {
    let mut out = Vec::new();
    let rows = rows.into_iter().map(Ok::<_, Infallible>);
    assert!(matches!(
        export(format, options, &metadata(), rows, &mut One, None, &mut out),
        Ended::Rows(None)
    ));
    out
}

#[test]
fn csv_is_a_header_and_faults() {
    let text = text(Format::Csv);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with(&format!("{},process,", csv::HEADER)));
    assert_eq!(lines.len(), 5);
    assert_eq!(
        lines[1],
        "1,1,70,71,0x7f0000001001,0x401000,x,file|user,make,\"cc1; \"\"x\"\"\",file-exec,retried,\
         \"/a,\"\"b\"\"\",r-xp,4660,/bin/cc1,4096,,,,2,0,/usr/bin/make,1970-01-01T00:00:01.000000001Z,,,,,"
    );
    assert!(lines[2].contains(",/bin/cc1,4096,\"f(int, char)\",16,1500,2,2,/usr/bin/make,"));
    assert!(lines[2].ends_with(",2097152,3,15,,"), "{}", lines[2]);
    assert!(lines[4].contains(",unknown,,,,,,,,,2,0,"));
}

#[test]
fn csv_with_comments_says_what_the_trace_says_of_itself() {
    let options = Options {
        comments: true,
        ..FAULTS
    };
    let with = text_with(Format::Csv, options);
    assert!(with.starts_with("# fault-tracer 1.2.3\n"));
    assert!(with.contains("\n# wall_offset_ns: 1000000000\n"));
    assert!(with.ends_with(
        "# hits=11 recorded=4 dropped=7 overwritten=0 missed=0\n\
         # lost: dropped=7 overwritten=0 missed=0\n"
    ));
    let lines: Vec<_> = with.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, text(Format::Csv).lines().collect::<Vec<_>>());
}

#[test]
fn csv_has_all_rows_with_as_many_fields_as_the_header() {
    let text = text_with(Format::Csv, EVENTS);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1 + rows().len());
    let fields = |line: &str| {
        let mut quoted = false;
        let separates = |&character: &char| {
            quoted ^= character == '"';
            character == ',' && !quoted
        };
        1 + line.chars().filter(separates).count()
    };
    for (line, row) in lines[1..].iter().zip(rows()) {
        assert!(line.starts_with(&format!("{},{},", row.event(), row.time_ns())));
        assert_eq!(fields(line), fields(lines[0]), "{line}");
    }
    let columns: Vec<_> = lines[0].split(',').collect();
    let value = |line: &str, column: &str| {
        let at = columns.iter().position(|name| *name == column).unwrap();
        line.split(',').nth(at).unwrap().to_owned()
    };
    for (column, expected) in [
        ("address", "0x400000"),
        ("object", "/bin/cc1"),
        ("build_id", "abcd"),
        ("device", "34359738369"),
        ("inode", "77"),
        ("changed_ns", "5"),
    ] {
        assert_eq!(value(lines[2], column), expected);
    }
    assert_eq!(value(lines[1], "program"), "/bin/cc1");
    let dropped = lines[lines.len() - 2];
    assert_eq!(
        (value(dropped, "count"), value(dropped, "cpu")),
        ("7".into(), String::new())
    );
}

fn json_lines(options: Options) -> Vec<Value> {
    text_with(Format::Jsonl, options)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn jsonl_has_a_line_for_each_fault() {
    let lines = json_lines(FAULTS);
    assert_eq!(lines.len(), 4);
    assert!(lines[0].get("event").is_none());
    assert_eq!(lines[1]["fate"], "major");
    assert_eq!(lines[1]["program"], "/usr/bin/make");
    assert_eq!(lines[1]["mapping"], "/a,\"b\"");
    assert_eq!(lines[1]["address"], 0x7f00_0000_1002_u64);
    assert_eq!(lines[1]["time"], "1970-01-01T00:00:01.000000002Z");
    assert_eq!(lines[1]["object"], "/bin/cc1");
    assert_eq!(lines[1]["ip_offset"], 0x1000);
    assert_eq!(lines[1]["build_id"], "abcd");
    assert_eq!(lines[1]["symbol"], "f(int, char)");
    assert_eq!(lines[1]["symbol_offset"], 16);
    assert_eq!(lines[1]["duration_ns"], 1500);
    assert!(lines[2].get("symbol").is_none());
    assert!(lines[2].get("duration_ns").is_none());
    assert!(lines[3].get("mapping").is_none());
}

#[test]
fn jsonl_has_a_line_for_each_event() {
    let lines = json_lines(EVENTS);
    assert_eq!(lines.len(), rows().len());
    assert_eq!(lines[0]["event"], "exec");
    assert_eq!(lines[0]["program"], "/bin/cc1");
    assert_eq!(lines[1]["event"], "text");
    assert_eq!(lines[1]["build_id"], "abcd");
    assert_eq!(lines[1]["inode"], 77);
    assert_eq!(
        (&lines[6]["count"], &lines[6]["end_ns"]),
        (&7.into(), &6.into())
    );
}

#[test]
fn folded_counts_faults_once() {
    assert_eq!(
        text(Format::Folded),
        "make;cc1: \"x\";/a,\"b\";[cc1] 1\n\
         make;cc1: \"x\";/a,\"b\";f(int, char) 1\n\
         make;cc1: \"x\";[unknown];[unknown] 1\n"
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
    let trace: Value = serde_json::from_slice(&bytes_of(minor, Format::Perfetto, FAULTS)).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let rates: Vec<_> = events.iter().filter(|event| event["ph"] == "C").collect();
    assert_eq!(rates.len(), 2);
    for (rate, minor) in rates.iter().zip([100, 0]) {
        assert_eq!(rate["args"], json!({ "minor": minor }));
    }
}

#[test]
fn perf_script_has_an_event_its_frames_and_an_empty_line() {
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
            "page-faults:"
        ]
    );
    assert_eq!(lines[1].trim(), "401000 f(int, char)+0x10 (/bin/cc1)");
    assert_eq!(lines[2].trim(), "2 major-fault ([page-faults])");
    assert_eq!(lines.len(), 3);
    let frame = events[1].lines().nth(1).unwrap().trim();
    assert_eq!(frame, "401000 [unknown] (/bin/cc1)");
}

/// As stackcollapse-perf.pl does, inferno takes the first event that it meets, and leaves out all others.
#[test]
fn perf_script_is_what_inferno_collapses() {
    let text = text(Format::PerfScript);
    let mut options = CollapseOptions::default();
    options.include_pid = true;
    options.include_tid = true;
    let mut stacks = Vec::new();
    Folder::from(options)
        .collapse(text.as_bytes(), &mut stacks)
        .unwrap();
    assert_eq!(
        String::from_utf8(stacks).unwrap(),
        "cc1;_\"x\"-70/71;major-fault;f 1\n\
         cc1;_\"x\"-70/71;minor-fault;[cc1] 1\n\
         cc1;_\"x\"-70/71;unknown-fault;[unknown] 1\n"
    );
}

/// The batches of a table, by the two formats.
fn tables(options: Options) -> [(Schema, RecordBatch); 2] {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes_with(
        Format::Parquet,
        options,
    )))
    .unwrap();
    let parquet_schema = reader.schema().as_ref().clone();
    let parquet: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let arrow = io::Cursor::new(bytes_with(Format::Arrow, options));
    let reader = FileReader::try_new(arrow, None).unwrap();
    let arrow_schema = reader.schema().as_ref().clone();
    let arrow: Vec<_> = reader.map(Result::unwrap).collect();
    [(parquet_schema, parquet), (arrow_schema, arrow)].map(|(schema, mut batches)| {
        assert_eq!(batches.len(), 1);
        (schema, batches.remove(0))
    })
}

#[test]
fn tables_have_the_faults_with_plain_types() {
    let [parquet, arrow] = tables(FAULTS);
    assert_eq!(parquet.0.fields(), arrow.0.fields());
    for (schema, batch) in [parquet, arrow] {
        assert_eq!(schema.metadata()["command"], "make");
        assert_eq!(batch.num_rows(), 4);
        for field in schema.fields() {
            let column = batch.column_by_name(field.name()).unwrap();
            assert!(
                matches!(
                    field.data_type(),
                    DataType::Utf8
                        | DataType::Int32
                        | DataType::Int64
                        | DataType::Timestamp(TimeUnit::Nanosecond, Some(_))
                ),
                "{field:?}"
            );
            assert!(field.is_nullable() || column.null_count() == 0);
        }
        for always in [
            "time", "cpu", "pid", "kind", "fate", "address", "ip", "returns",
        ] {
            assert!(!schema.field_with_name(always).unwrap().is_nullable());
        }
        let long = |name: &str, row| {
            let column = batch.column_by_name(name).unwrap();
            column.as_primitive::<Int64Type>().value(row)
        };
        assert_eq!(long("ip", 1), 0x40_1000);
        assert_eq!(long("address", 0) - long("address", 3), -3);
        let time = batch.column_by_name("time").unwrap();
        let time = time.as_primitive::<TimestampNanosecondType>();
        assert_eq!(time.value(1), 1_000_000_002);
        assert_eq!(time.timezone(), Some("UTC"));
        let texts = |name: &str| {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            let texts = column.iter().map(|text| text.map(str::to_owned));
            texts.collect::<Vec<_>>()
        };
        let symbol = Some("f(int, char)".to_owned());
        assert_eq!(texts("symbol"), [None, symbol, None, None]);
        assert_eq!(texts("program"), vec![Some("/usr/bin/make".to_owned()); 4]);
        let returns = batch.column_by_name("returns").unwrap();
        let returns = returns.as_primitive::<Int32Type>();
        assert_eq!(returns.values(), &[0, 2, 0, 0]);
    }
}

#[test]
fn tables_have_all_rows_if_asked() {
    let [parquet, arrow] = tables(EVENTS);
    assert_eq!(parquet.1.columns(), arrow.1.columns());
    let batch = arrow.1;
    assert_eq!(batch.num_rows(), rows().len());
    let event = batch.column_by_name("event").unwrap().as_string::<i32>();
    for (row, of) in rows().iter().enumerate() {
        assert_eq!(event.value(row), of.event());
    }
    let count = batch.column_by_name("count").unwrap();
    assert_eq!(count.as_primitive::<Int64Type>().value(6), 7);
    let build_id = batch.column_by_name("build_id").unwrap().as_string::<i32>();
    assert_eq!((build_id.value(1), build_id.value(2)), ("abcd", "abcd"));
    assert!(build_id.is_null(0));
}

#[test]
fn an_error_among_the_rows_leaves_a_whole_output() {
    let mut out = Vec::new();
    let rows = [Ok(fault(1, None, Fate::Minor)), Err("cut off")];
    let ended = export(
        Format::Perfetto,
        FAULTS,
        &metadata(),
        rows,
        &mut (),
        None,
        &mut out,
    );
    assert!(matches!(ended, Ended::Rows(Some("cut off"))));
    assert!(serde_json::from_slice::<Value>(&out).is_ok());
}

/// Panels that rise with each fault.
struct Rising(u32);

impl Bands for Rising {
    fn next(&mut self) -> Option<Band> {
        self.0 += 1;
        Some(Band {
            panel: self.0,
            offset: u64::from(self.0) * 4096,
            label: "a, \"b\"".into(),
        })
    }
}

#[test]
fn bands_are_columns_of_faults_alone() {
    let text = |format, options, bands: Option<&mut dyn Bands>| {
        let rows = [
            Ok::<_, Infallible>(fault(1, None, Fate::Retried)),
            Ok(fault(2, None, Fate::Minor)),
        ];
        let mut out = Vec::new();
        let ended = export(format, options, &metadata(), rows, &mut (), bands, &mut out);
        assert!(matches!(ended, Ended::Rows(None)));
        String::from_utf8_lossy(&out).into_owned()
    };
    let csv = text(Format::Csv, FAULTS, Some(&mut Rising(0)));
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].ends_with(",callers,panel,panel_offset,panel_label"));
    assert!(
        lines[1].ends_with(",,,"),
        "an attempt is not drawn: {}",
        lines[1]
    );
    assert!(
        lines[2].ends_with(",1,4096,\"a, \"\"b\"\"\""),
        "{}",
        lines[2]
    );
    let json = text(Format::Jsonl, FAULTS, Some(&mut Rising(6)));
    let line: Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
    assert_eq!(
        (&line["panel"], &line["panel_offset"]),
        (&7.into(), &28672.into())
    );
    assert_eq!(line["panel_label"], "a, \"b\"");
    for format in [Format::Parquet, Format::Arrow] {
        assert!(text(format, FAULTS, Some(&mut Rising(0))).contains("panel_offset"));
        assert!(!text(format, FAULTS, None).contains("panel_offset"));
    }
    assert!(!text(Format::Csv, EVENTS, None).contains("panel"));
}

#[test]
fn an_output_that_cannot_be_written_is_reported() {
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
        let ended = export(format, EVENTS, &metadata(), rows, &mut (), None, &mut Full);
        assert!(matches!(ended, Ended::Output(_)), "{format:?}");
    }
}

/// A fault of `f`, which a place without a symbol calls, which JIT code calls that nobody is known to call; and one
/// whose stack is whole.
fn rows_with_stacks() -> Vec<Row> {
    let frame = |id, caller, offset: Option<u64>| {
        Row::Frame(Box::new(FrameRow {
            time_ns: 2,
            cpu: 1,
            pid: 70,
            tid: 71,
            id,
            caller,
            address: offset.map_or(0x7000, |offset| 0x40_0000 + offset),
            code: offset.map(|offset| Code {
                object: object(),
                offset,
            }),
        }))
    };
    let with_stack = |time_ns, stack| match fault(time_ns, Some("[heap]"), Fate::Minor) {
        Row::Fault(fault) => Row::Fault(Box::new(ResolvedFault {
            stack: Some(stack),
            ..*fault
        })),
        _ => unreachable!(),
    };
    let mut rows = rows()[..2].to_vec();
    rows.extend([
        frame(2, UNKNOWN_CALLER, None),
        frame(3, 2, Some(0x2000)),
        with_stack(2, 3),
        frame(4, OUTERMOST, Some(0x3000)),
        with_stack(3, 4),
        fault(4, Some("[heap]"), Fate::Minor),
    ]);
    rows
}

#[test]
fn stacks_are_in_all_formats() {
    let text = |format, options| String::from_utf8(bytes_of(rows_with_stacks(), format, options));
    let text = |format, options| text(format, options).unwrap();
    assert_eq!(
        text(Format::Folded, FAULTS),
        "make;cc1: \"x\";[cut off];[unknown];f(int, char);f(int, char) 1\n\
         make;cc1: \"x\";[heap];[cc1] 1\n\
         make;cc1: \"x\";f(int, char);[cc1] 1\n"
    );
    let perf = text(Format::PerfScript, FAULTS);
    let first = perf.split("\n\n").next().unwrap();
    let frames: Vec<_> = first.lines().skip(1).map(str::trim).collect();
    assert_eq!(
        frames,
        [
            "401000 f(int, char)+0x10 (/bin/cc1)",
            "402000 f(int, char)+0x11 (/bin/cc1)",
            "7000 [unknown] ([unknown])",
            "1 minor-fault ([page-faults])",
        ]
    );
    let csv = text(Format::Csv, FAULTS);
    let callers = "f(int, char);[unknown];[cut off]";
    assert!(
        csv.lines()
            .nth(1)
            .unwrap()
            .ends_with(&format!(",3,\"{callers}\"")),
        "{csv}"
    );
    assert!(csv.lines().nth(3).unwrap().ends_with(",,"), "{csv}");
    let lines: Vec<Value> = text(Format::Jsonl, EVENTS)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
    assert_eq!(of("fault")["callers"], callers);
    assert_eq!(of("frame")["caller"], UNKNOWN_CALLER);
    assert_eq!(of("frame")["stack"], 2);
    assert_eq!(of("frame")["ip_offset"], 0x7000);
    let perfetto: Value = serde_json::from_str(&text(Format::Perfetto, FAULTS)).unwrap();
    assert!(perfetto
        .to_string()
        .contains("f(int, char) < [unknown] < [cut off]"));
}

#[test]
fn callers_have_the_addresses_of_their_own_process() {
    let mut rows = rows_with_stacks();
    let Row::Text(text) = &rows[1] else {
        unreachable!()
    };
    let elsewhere = TextRow {
        pid: 80,
        address: 0x90_0000,
        ..(**text).clone()
    };
    let Row::Fault(fault) = &rows[6] else {
        panic!("{rows:?}")
    };
    let mut fault = fault.clone();
    fault.fault.pid = 80;
    rows.push(Row::Text(Box::new(elsewhere)));
    rows.push(Row::Fault(fault));
    let text = String::from_utf8(bytes_of(rows, Format::PerfScript, FAULTS)).unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(
        last.contains("903000 f(int, char)+0x11 (/bin/cc1)"),
        "{last}"
    );
}

#[test]
fn folded_stacks_have_other_weights() {
    let weighed = |weight| {
        let options = Options { weight, ..FAULTS };
        let text =
            String::from_utf8(bytes_of(rows_with_stacks(), Format::Folded, options)).unwrap();
        let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        text.lines().map(count).collect::<Vec<_>>()
    };
    // One of them has a duration.
    assert_eq!(weighed(Weight::Time), [1500]);
    assert_eq!(weighed(Weight::Pages), [1, 1, 1]);
}

#[test]
fn pages_are_those_of_the_traced_machine() {
    // Sixteen addresses, 4 KiB apart.
    let rows = || {
        (0..16).map(|page| {
            let mut row = fault(2, Some("[heap]"), Fate::Minor);
            if let Row::Fault(fault) = &mut row {
                fault.fault.address = 0x7f00_0000_0000 + (page << 12);
            }
            Ok::<_, ()>(row)
        })
    };
    for (bytes, pages) in [(4 << 10, 16), (16 << 10, 4), (64 << 10, 1)] {
        let metadata = Metadata {
            page_size: PageSize::of_bytes(bytes).unwrap(),
            ..metadata()
        };
        let written = |format, options| {
            let mut out = Vec::new();
            let ended = export(format, options, &metadata, rows(), &mut One, None, &mut out);
            assert!(matches!(ended, Ended::Rows(None)));
            out
        };
        let options = Options {
            weight: Weight::Pages,
            comments: true,
            ..FAULTS
        };
        let text = |format| String::from_utf8(written(format, options)).unwrap();
        let folded = text(Format::Folded);
        assert!(folded.ends_with(&format!(" {pages}\n")), "{folded}");
        let csv = text(Format::Csv);
        assert!(csv.contains(&format!("\n# page_bytes: {bytes}\n")), "{csv}");
        let perfetto: Value = serde_json::from_str(&text(Format::Perfetto)).unwrap();
        assert_eq!(perfetto["otherData"]["page_bytes"], bytes);
        let parquet = bytes::Bytes::from(written(Format::Parquet, options));
        let parquet = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap();
        let arrow = io::Cursor::new(written(Format::Arrow, options));
        let arrow = FileReader::try_new(arrow, None).unwrap();
        for schema in [parquet.schema(), &arrow.schema()] {
            assert_eq!(schema.metadata()["page_bytes"], bytes.to_string());
        }
    }
}
