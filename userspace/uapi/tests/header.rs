// SPDX-License-Identifier: GPL-2.0-only

//! Holds `uapi/fault_tracer.h` equal to `uapi/fault_tracer.rs`.
//!
//! A C program is made that compares every structure, field and constant of the header with the value
//! that they have here, and is compiled and run. That the list below is complete, on either side, is
//! checked against the two files themselves.

use std::{collections::BTreeSet, fs, mem::offset_of, path::PathBuf, process::Command};

use fault_tracer_uapi as uapi;

/// Names of C and values of Rust.
struct Table {
    constants: Vec<(String, u64)>,
    structures: Vec<Structure>,
}

struct Structure {
    rust: &'static str,
    size: usize,
    align: usize,
    fields: Vec<Field>,
}

struct Field {
    name: &'static str,
    offset: usize,
    size: usize,
    signed: bool,
    array: bool,
}

/// What is asked of a field's type.
trait Plain {
    const SIGNED: bool;
    const ARRAY: bool = false;
}
macro_rules! plain {
    ($($type:ty: $signed:expr),*) => {$(
        impl Plain for $type {
            const SIGNED: bool = $signed;
        }
    )*};
}
plain!(u8: false, u16: false, u32: false, u64: false, i32: true, i64: true);
impl Plain for uapi::FlagTest {
    const SIGNED: bool = false;
}
impl Plain for uapi::AddressRange {
    const SIGNED: bool = false;
}
impl<T: Plain, const N: usize> Plain for [T; N] {
    const SIGNED: bool = T::SIGNED;
    const ARRAY: bool = true;
}

fn field<S, T: Plain>(name: &'static str, offset: usize, _get: fn(&S) -> &T) -> Field {
    Field {
        name,
        offset,
        size: size_of::<T>(),
        signed: T::SIGNED,
        array: T::ARRAY,
    }
}

macro_rules! structure {
    ($name:ident: $($field:ident),*) => {
        Structure {
            rust: stringify!($name),
            size: size_of::<uapi::$name>(),
            align: align_of::<uapi::$name>(),
            fields: vec![$(field(
                stringify!($field),
                offset_of!(uapi::$name, $field),
                |value: &uapi::$name| &value.$field,
            )),*],
        }
    };
}

macro_rules! constants {
    ($prefix:literal $module:ident: $($name:ident),*) => {
        vec![$((
            format!("{}{}", $prefix, stringify!($name)),
            // CAST: all constants are unsigned and of at most 64 bits.
            $module::$name as u64,
        )),*]
    };
}

fn table() -> Table {
    Table {
        constants: {
            use uapi::{
                clock, entry, fault_flag, fault_result, mapping_flag, mode, record_type, rule_flag,
                rule_kind, session_flag, stack_flag, state, target_flag, task_event,
            };
            let groups: [Vec<(String, u64)>; 16] = [
                constants!["FT_" uapi: ABI_VERSION, SLOT_BYTES, MAX_SESSIONS, PID_BITS, PID_MASK,
                    RING_BYTES_MIN, RING_BYTES_MAX, HEADER_TGID_SHIFT, HEADER_FLAGS_SHIFT,
                    FLAGS_MASK, HEADER_ENTRY_SHIFT, HEADER_MAPPING_SHIFT, HEADER_SLOTS_SHIFT, HEADER_TYPE_SHIFT, MAPPINGS,
                    MAPPING_UNKNOWN, ADDRESS_BITS, ADDRESS_MASK, MIN_FLT_SHIFT, MAJ_FLT_SHIFT,
                    COUNTER_MASK, IOC_TYPE, RECORD_SLOTS_MAX, STACK_FRAMES_MAX, STACK_BYTES_MAX, STACK_CHAIN_TOP_BYTES, RULES_MAX, FILTER_TESTS, FILTER_MAPPINGS,
                    AROUND_SHIFT, AROUND_MASK, RESULT_MASK],
                constants!["" uapi: FT_IOC_INFO, FT_IOC_CONFIGURE, FT_IOC_TARGET_ADD,
                    FT_IOC_TARGET_REMOVE, FT_IOC_START, FT_IOC_STOP, FT_IOC_DRAIN,
                    FT_IOC_CPU_COUNTERS, FT_IOC_ADOPT, FT_IOC_SESSION, FT_IOC_CLOCK, FT_IOC_RULE_ADD, FT_IOC_FILTER,
                    FT_IOC_FILTER_MAPPING, FT_IOC_TELL_ALIVE],
                constants!["FT_RECORD_" record_type: PAD, FAULT, MAPPING, TASK, EXIT, LOST, RETURN, STACK],
                constants!["FT_STACK_" stack_flag: COPY, WHOLE, CUT, BROKEN, FOREIGN, CHAIN],
                constants!["FT_MAPPING_" mapping_flag: READ, WRITE, EXEC, SHARED, FILE, GROWSDOWN,
                    HUGETLB, LOCKED, IDENTITY, BUILD_ID, BIAS, AGAIN],
                constants!["FT_TASK_" task_event: PRESENT, FORK, EXEC, RENAME, ALIVE, LEFT],
                constants!["FT_CLOCK_" clock: MONOTONIC, BOOTTIME, RAW],
                constants!["FT_FAULT_" fault_flag: WRITE, PRESENT, FILE, SHARED, SWAP_ENTRY, TRIED,
                    USER, REMOTE, INSTRUCTION, GUP, UNSHARE, HUGETLB, VMA_LOCK],
                constants!["FT_ENTRY_" entry: SHIFT, MASK, NUMA_HINT, PROTECTED, UFFD_RWP, UFFD_WP,
                    MIGRATION, HWPOISON, DEVICE_PRIVATE, DEVICE_EXCLUSIVE, POISONED, GUARD,
                    UFFD_MISSING, UFFD_MINOR, CHANGING],
                constants!["FT_RESULT_" fault_result: OOM, SIGBUS, MAJOR, HWPOISON, HWPOISON_LARGE,
                    SIGSEGV, RETRY, COMPLETED],
                constants!["FT_TARGET_" target_flag: ON_EXEC],
                constants!["FT_RULE_" rule_kind: NONE, PROCESS, USER, CGROUP, EXECUTABLE, NAME],
                constants!["FT_RULE_" rule_flag: EXCEPT],
                constants!["FT_STATE_" state: IDLE, RUNNING, STOPPED],
                constants!["FT_MODE_" mode: DISCARD, OVERWRITE],
                constants!["FT_SESSION_" session_flag: FOLLOW, LOG, BOOT, SIDEBAND, ALL, LATENCY, FTRACE,
                    STACK_FRAMES, STACK_COPY, RETELL],
            ];
            groups.concat()
        },
        structures: vec![
            structure!(FaultRecord: header, time_ns, address_counters, ip_mapping),
            structure!(MappingRecord: header, time_ns, start, end, offset, inode, device, number,
                path_bytes, flags),
            structure!(MappedFile: generation, build_id_bytes, build_id, bias, reserved),
            structure!(TaskRecord: header, time_ns, parent, event, comm, min_flt, maj_flt, path_bytes,
                from_id),
            structure!(ExitRecord: header, time_ns, min_flt, maj_flt),
            structure!(LostRecord: header, time_ns, last_ns, count),
            structure!(ReturnRecord: header, time_ns, entry_ns, result, page),
            structure!(StackRecord: header, time_ns, count, flags, sp),
            structure!(Info: abi_version, fault_record_bytes, slot_bytes, cpus, state, mode, flags,
                live_targets, ring_bytes, missed, ring_stride, producer_offset, consumer_offset,
                data_offset, max_sessions, missed_returns, deaf, heard_ns, page_bytes, reserved),
            structure!(Config: ring_bytes, mode, flags, watermark_bytes, clock, stack),
            structure!(Target: pid, flags),
            structure!(Rule: kind, flags, value, name),
            structure!(FlagTest: mask, value),
            structure!(AddressRange: start, end),
            structure!(Filter: tests, ranges, every, reserved),
            structure!(FilterMapping: name),
            structure!(Time: clock, reserved, time_ns, wall_offset_ns, wall_error_ns),
            structure!(Drain: buffer, length, cpu, bytes, gap_slots),
            structure!(CpuCounters: cpu, reserved0, hits, recorded, dropped, overwritten, pending,
                sideband_dropped, passed_over),
            structure!(SessionInfo: index, present, mode, flags, owner_pid, live_targets,
                named_targets, first_target, owner_comm, ring_bytes, hits, recorded, dropped,
                overwritten, missed, running_ns, missed_returns, rules, passed_over),
        ],
    }
}

/// `CpuCounters` as `ft_cpu_counters`.
fn c_name(rust: &str) -> String {
    let mut name = String::from("ft");
    for letter in rust.chars() {
        if letter.is_uppercase() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn abi_file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../uapi", name]
        .iter()
        .collect()
}

fn header() -> String {
    fs::read_to_string(abi_file("fault_tracer.h")).unwrap()
}

/// The records whose accessors are compared, from all zeros to all ones.
const SAMPLES: [[u64; 4]; 4] = [
    [0; 4],
    [u64::MAX; 4],
    [
        0x1234_5678_9abc_def0,
        1,
        0xab00_7fff_dead_beef,
        0xcd00_0000_0040_1000,
    ],
    [0x5043_f000_0000_0001, 2, 1 << 56, 1 << 55],
];

fn program(table: &Table) -> String {
    let mut lines = vec![
        "#include <stddef.h>".into(),
        "#include <stdio.h>".into(),
        "#include <string.h>".into(),
        "#include \"fault_tracer.h\"".into(),
        "static int wrong;".into(),
        "static void same(const char *what, unsigned long long c, unsigned long long rust) {"
            .into(),
        "  if (c != rust) { printf(\"%s: C %#llx, Rust %#llx\\n\", what, c, rust); wrong = 1; } }"
            .into(),
        "int main(void) {".into(),
        format!(
            "if (strcmp(FT_DEVICE_NAME, \"{}\")) {{ puts(\"FT_DEVICE_NAME\"); wrong = 1; }}",
            uapi::DEVICE_NAME
        ),
    ];
    let mut same = |what: &str, c: &str, rust: u64| {
        lines.push(format!("same(\"{what}\", {c}, {rust}ULL);"));
    };
    for (name, value) in &table.constants {
        same(name, name, *value);
    }
    for structure in &table.structures {
        let name = c_name(structure.rust);
        same(
            &name,
            &format!("sizeof(struct {name})"),
            structure.size as u64,
        );
        same(
            &name,
            &format!("_Alignof(struct {name})"),
            structure.align as u64,
        );
        for field in &structure.fields {
            let what = format!("{name}.{}", field.name);
            let member = format!("((struct {name} *)0)->{}", field.name);
            same(
                &format!("offset of {what}"),
                &format!("offsetof(struct {name}, {})", field.name),
                field.offset as u64,
            );
            same(
                &format!("size of {what}"),
                &format!("sizeof({member})"),
                field.size as u64,
            );
            // The elements of arrays are bytes or reserved. Minus one is less than zero in signed types
            // alone.
            if !field.array {
                same(
                    &format!("sign of {what}"),
                    &format!("(__typeof__({member}))-1 < (__typeof__({member}))0"),
                    field.signed.into(),
                );
            }
        }
    }
    for (i, words) in SAMPLES.iter().enumerate() {
        let record = uapi::FaultRecord::from_words(*words);
        let [a, b, c, d] = words;
        let literal = format!("(&(struct ft_fault_record){{ {a}ULL, {b}ULL, {c}ULL, {d}ULL }})");
        let header = format!("{literal}->header");
        for (accessor, argument, value) in [
            ("FT_HEADER_TYPE", &header, uapi::header_type(*a)),
            ("FT_HEADER_SLOTS", &header, uapi::header_slots(*a)),
            ("FT_FAULT_TID", &literal, record.tid().into()),
            ("FT_FAULT_PID", &literal, record.pid().into()),
            ("FT_FAULT_FLAGS", &literal, record.flags()),
            ("FT_FAULT_ADDRESS", &literal, record.address()),
            ("FT_FAULT_IP", &literal, record.ip()),
            (
                "FT_FAULT_MIN_FLT_LOW",
                &literal,
                record.min_flt_low().into(),
            ),
            (
                "FT_FAULT_MAJ_FLT_LOW",
                &literal,
                record.maj_flt_low().into(),
            ),
            ("FT_FAULT_MAPPING", &literal, record.mapping().into()),
        ] {
            same(
                &format!("{accessor} of sample {i}"),
                &format!("{accessor}({argument})"),
                value,
            );
        }
    }
    for result in [0, 0x0010_0004, 0xfff0_4000, u32::MAX] {
        let literal = format!("(&(struct ft_return_record){{ .result = {result}U }})");
        for (accessor, value) in [
            ("FT_RETURN_RESULT", result & uapi::RESULT_MASK),
            (
                "FT_RETURN_AROUND",
                result >> uapi::AROUND_SHIFT & uapi::AROUND_MASK,
            ),
        ] {
            let what = format!("{accessor} of {result:#x}");
            same(&what, &format!("{accessor}({literal})"), value.into());
        }
    }
    lines.push("return wrong; }".into());
    lines.join("\n")
}

#[test]
fn c_and_rust_agree() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("compare.c");
    let binary = folder.path().join("compare");
    fs::write(&source, program(&table())).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let compiled = Command::new(&compiler)
        .args([
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Wno-type-limits",
            "-Werror",
            "-I",
        ])
        .arg(abi_file(""))
        .arg("-o")
        .args([&binary, &source])
        .output()
        .unwrap_or_else(|error| panic!("the C compiler {compiler:?} cannot be run: {error}"));
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let run = Command::new(&binary).output().unwrap();
    assert!(
        run.status.success(),
        "the header differs:\n{}",
        String::from_utf8_lossy(&run.stdout)
    );
}

#[test]
fn the_header_stands_alone_in_old_and_new_c_and_in_cpp() {
    for (language, standard) in [("c", "gnu89"), ("c", "c23"), ("c", "c11"), ("c++", "c++17")] {
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        // An older compiler does not know the newest standard, and C++ may not be installed.
        let probe = |source: &str| {
            Command::new(&compiler)
                .args(["-x", language])
                .arg(format!("-std={standard}"))
                .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", source])
                .output()
                .unwrap()
        };
        if !probe("/dev/null").status.success() {
            continue;
        }
        let header = abi_file("fault_tracer.h");
        let result = probe(header.to_str().unwrap());
        assert!(
            result.status.success(),
            "{language} {standard}: {}",
            String::from_utf8_lossy(&result.stderr)
        );
    }
}

/// What the Rust file defines, by the names of C: constants, and structures with their fields.
fn defined_in_rust() -> (BTreeSet<String>, BTreeSet<String>) {
    let source = fs::read_to_string(abi_file("fault_tracer.rs")).unwrap();
    let file = syn::parse_file(&source).unwrap();
    let (mut constants, mut fields) = (BTreeSet::new(), BTreeSet::new());
    collect(&file.items, "FT_", &mut constants, &mut fields);
    (constants, fields)
}

fn collect(
    items: &[syn::Item],
    prefix: &str,
    constants: &mut BTreeSet<String>,
    fields: &mut BTreeSet<String>,
) {
    for item in items {
        match item {
            syn::Item::Const(item) if matches!(item.vis, syn::Visibility::Public(_)) => {
                let name = item.ident.to_string();
                // Texts are no constants of C's.
                if name == "NAMES" {
                    continue;
                }
                let known = name.starts_with("FT_");
                constants.insert(if known {
                    name
                } else {
                    format!("{prefix}{name}")
                });
            }
            syn::Item::Mod(module) => {
                let prefix = match module.ident.to_string().as_str() {
                    "record_type" => "FT_RECORD_",
                    "fault_flag" => "FT_FAULT_",
                    "entry" => "FT_ENTRY_",
                    "state" => "FT_STATE_",
                    "target_flag" => "FT_TARGET_",
                    "rule_kind" | "rule_flag" => "FT_RULE_",
                    "mode" => "FT_MODE_",
                    "session_flag" => "FT_SESSION_",
                    "mapping_flag" => "FT_MAPPING_",
                    "stack_flag" => "FT_STACK_",
                    "task_event" => "FT_TASK_",
                    "clock" => "FT_CLOCK_",
                    "fault_result" => "FT_RESULT_",
                    other => panic!("module {other} has no prefix in the header: name one here"),
                };
                let (_, items) = module.content.as_ref().unwrap();
                collect(items, prefix, constants, fields);
            }
            syn::Item::Struct(item) => {
                for field in &item.fields {
                    let name = c_name(&item.ident.to_string());
                    fields.insert(format!("{name}.{}", field.ident.as_ref().unwrap()));
                }
            }
            syn::Item::Const(_) | syn::Item::Fn(_) | syn::Item::Impl(_) | syn::Item::Use(_) => {}
            _ => panic!("an item of a kind that this test does not know"),
        }
    }
}

/// What the header defines: macros without arguments, and structures with their fields.
fn defined_in_c() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut constants, mut fields) = (BTreeSet::new(), BTreeSet::new());
    let mut structure = None;
    for line in header().lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("#define"), Some(name)) if !name.contains('(') && !name.starts_with('_') => {
                constants.insert(name.to_owned());
            }
            (Some("struct"), Some(name)) => match words.next() {
                Some("{") => structure = Some(name.to_owned()),
                // A field that is a structure.
                field => {
                    let field = field.unwrap().split(['[', ';']).next().unwrap();
                    fields.insert(format!("{}.{field}", structure.as_ref().unwrap()));
                }
            },
            (Some("};"), _) => structure = None,
            (Some(kind), Some(field)) if kind.starts_with("__") => {
                let field = field.trim_end_matches(';');
                let field = field.split('[').next().unwrap();
                fields.insert(format!("{}.{field}", structure.as_ref().unwrap()));
            }
            _ => {}
        }
    }
    (constants, fields)
}

#[test]
fn nothing_is_left_out_on_either_side() {
    let table = table();
    let mut constants: BTreeSet<_> = table.constants.into_iter().map(|(name, _)| name).collect();
    // A text, compared by itself.
    constants.insert("FT_DEVICE_NAME".into());
    let mut fields = BTreeSet::new();
    for structure in table.structures {
        let name = c_name(structure.rust);
        fields.extend(
            structure
                .fields
                .iter()
                .map(|field| format!("{name}.{}", field.name)),
        );
    }
    let compared = (constants, fields);
    assert_eq!(
        defined_in_rust(),
        compared,
        "left: fault_tracer.rs, right: this test"
    );
    assert_eq!(
        defined_in_c(),
        compared,
        "left: fault_tracer.h, right: this test"
    );
}

#[test]
fn every_flag_but_those_of_the_access_has_a_name() {
    use uapi::fault_flag::{INSTRUCTION, NAMES, WRITE};
    let named = NAMES.iter().fold(0, |flags, (flag, _)| flags | flag);
    let all: u64 = table()
        .constants
        .iter()
        .filter(|(name, _)| name.starts_with("FT_FAULT_"))
        .map(|(_, flag)| flag)
        .sum();
    assert_eq!(named, all & !(WRITE | INSTRUCTION));
    assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn every_number_of_an_entry_has_one_name_beside_each_flag() {
    use uapi::{
        entry::{name, MASK, NAMES, SHIFT},
        fault_flag::{PRESENT, SWAP_ENTRY},
    };
    for (beside, number, known) in NAMES {
        assert_eq!(name(beside | number), Some(known));
        assert!([0, PRESENT, SWAP_ENTRY].contains(&beside), "{known}");
        assert!(number & MASK == number && number != 0, "{known}");
    }
    let named: BTreeSet<u64> = NAMES.iter().map(|(_, number, _)| *number).collect();
    let all: BTreeSet<u64> = table()
        .constants
        .into_iter()
        .filter(|(name, _)| name.starts_with("FT_ENTRY_"))
        .map(|(_, value)| value)
        .filter(|value| ![MASK, u64::from(SHIFT)].contains(value))
        .collect();
    // The last number is also the mask.
    assert_eq!(named, all.into_iter().chain([MASK]).collect());
    for nothing in [0, PRESENT, SWAP_ENTRY, PRESENT | SWAP_ENTRY | MASK] {
        assert_eq!(name(nothing), None);
    }
}

#[test]
fn flags_are_what_was_put_into_the_header() {
    for flags in 0..1 << 16 {
        let header =
            uapi::header_flags(flags) | uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT;
        let record = uapi::FaultRecord::from_words([header, 0, 0, 0]);
        assert_eq!(record.flags(), flags);
        assert_eq!(uapi::header_type(header), uapi::record_type::FAULT);
        assert_eq!((record.tid(), record.pid(), record.mapping()), (0, 0, 0));
    }
}
