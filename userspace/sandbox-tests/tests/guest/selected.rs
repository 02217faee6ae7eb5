// SPDX-License-Identifier: GPL-2.0-only

//! Recordings of chosen faults: what is recorded of all that happen, and what is counted as passed over.

use std::collections::BTreeSet;

use fault_tracer_uapi::{
    self as uapi, fault_flag, session_flag, AddressRange, Filter, FilterMapping, FlagTest,
};
use sandbox_tests::{
    device::{Session, Setup},
    guest, module, program, tool,
};

/// A recording of a command with options, and what `record` said.
struct Recorded {
    _folder: tempfile::TempDir,
    file: String,
    said: String,
}

fn record(options: &[&str], command: &[&str]) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.arrows");
    let file = file.to_str().unwrap().to_owned();
    let arguments = [
        &["record", "--ring-size", "16M", "-o", &file],
        options,
        &["--"],
        command,
    ]
    .concat();
    let said = tool::run(&arguments, 0);
    Recorded {
        _folder: folder,
        file,
        said,
    }
}

impl Recorded {
    /// The rows of the faults, by the columns of these names.
    fn rows<const N: usize>(&self, names: [&str; N]) -> Vec<[String; N]> {
        tool::columns(&self.file, names, &[])
    }

    /// How many faults `record` said were passed over, of how many that were seen.
    fn passed_over(&self) -> (u64, u64) {
        let line = self
            .said
            .lines()
            .find_map(|line| line.split_once("passed over, as asked: "));
        let Some((_, line)) = line else { return (0, 0) };
        let numbers: Vec<u64> = line
            .split(|c: char| !(c.is_ascii_digit() || c == ','))
            .filter_map(|word| word.replace(',', "").parse().ok())
            .collect();
        (numbers[0], numbers[1])
    }

    /// Has `verify` say that the selection is whole.
    #[track_caller]
    fn assert_whole(&self) -> String {
        let text = tool::run(&["verify", &self.file], 0);
        assert!(text.contains("a whole selection"), "{text}");
        text
    }
}

/// Touches 300 pages of memory, and reads 200 of a file.
fn workload() -> String {
    program::find("ft-workload").to_str().unwrap().to_owned()
}

#[test]
fn what_is_asked_for_is_recorded_and_all_else_is_counted() {
    guest::test(|_| {
        let _module = module::load_idle();
        let workload = workload();
        let command = [workload.as_str(), "touch", "--pages", "300"];
        let all = record(&[], &command).rows(["access", "kind"]);
        let count = |is: &dyn Fn(&[String; 2]) -> bool| all.iter().filter(|row| is(row)).count();
        for (words, expected) in [
            ("write", count(&|[access, _]| access == "w")),
            ("read", count(&|[access, _]| access == "r")),
            ("exec", count(&|[access, _]| access == "x")),
            ("write+anon+empty", count(&|[_, kind]| kind == "zero-fill")),
            ("read,exec", count(&|[access, _]| access != "w")),
        ] {
            let part = record(&["--only", words], &command);
            let text = part.assert_whole();
            assert!(
                text.contains(&format!("recorded: only {}", words.replace(',', ", "))),
                "{text}"
            );
            let found = part.rows(["access", "kind"]).len();
            // What the loader finds in memory differs a little from run to run.
            assert!(
                found.abs_diff(expected) <= 12,
                "{words}: {found}, {expected} of all"
            );
            let (passed_over, seen) = part.passed_over();
            assert_eq!(passed_over + found as u64, seen, "{}", part.said);
            assert!(
                (seen as usize).abs_diff(all.len()) <= 12,
                "{seen} of {}",
                all.len()
            );
        }
        let writes = record(&["--only", "write"], &command);
        assert!(writes.rows(["access"]).iter().all(|[access]| access == "w"));
        // Without durations nobody knows what became of them.
        let fates: BTreeSet<[String; 1]> = writes.rows(["fate"]).into_iter().collect();
        assert_eq!(fates, BTreeSet::from([["unknown".to_owned()]]));
        let timed = record(&["--only", "write", "--latency"], &command);
        timed.assert_whole();
        let fates = timed.rows(["fate"]);
        let minor = fates.iter().filter(|[fate]| fate == "minor").count();
        assert!(
            minor >= 300 && fates.len() - minor <= 10,
            "{minor} of {}",
            fates.len()
        );
    });
}

#[test]
fn mappings_and_addresses_are_chosen() {
    guest::test(|_| {
        let _module = module::load_idle();
        let command = ["cat", "/etc/passwd"];
        let all = record(&[], &command).rows(["mapping"]);
        let libc = format!("/usr/lib/{}-linux-gnu/libc.so.6", std::env::consts::ARCH);
        for (name, path) in [
            ("libc.so.6", libc.as_str()),
            ("/usr/bin/cat", "/usr/bin/cat"),
            ("[heap]", "[heap]"),
            ("[stack]", "[stack]"),
            ("[anon]", "[anon]"),
        ] {
            let part = record(&["--mapping", name], &command);
            part.assert_whole();
            let found = part.rows(["mapping"]);
            assert!(
                found.iter().all(|[mapping]| mapping == path),
                "{name}: {found:?}"
            );
            let expected = all.iter().filter(|[mapping]| mapping == path).count();
            assert!(
                found.len().abs_diff(expected) <= 6 && !found.is_empty(),
                "{name}: {} found, {expected} of all",
                found.len()
            );
        }
        let two = record(&["--mapping", "[heap]", "--mapping", "libc.so.6"], &command);
        let names: BTreeSet<[String; 1]> = two.rows(["mapping"]).into_iter().collect();
        assert_eq!(names.len(), 2, "{names:?}");
        // The upper half of user space's addresses: stack and libraries.
        let high = record(&["--range", "7f0000000000-800000000000"], &command);
        high.assert_whole();
        let addresses = high.rows(["address"]);
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses
            .iter()
            .all(|[address]| number(address) >= 0x7f00_0000_0000));
        let (passed_over, _) = high.passed_over();
        assert!(passed_over > 0);
    });
}

#[test]
fn each_tenth_on_each_cpu() {
    guest::test(|_| {
        let _module = module::load_idle();
        let workload = workload();
        let command = [
            workload.as_str(),
            "touch",
            "--pages",
            "20000",
            "--threads",
            "2",
        ];
        let part = record(&["--every", "10"], &command);
        let text = part.assert_whole();
        assert!(text.contains("recorded: 1 of 10"), "{text}");
        let found = part.rows(["address"]).len() as u64;
        let (passed_over, seen) = part.passed_over();
        assert_eq!(found + passed_over, seen);
        // Two CPUs, each with a rest of nine at most.
        assert!(
            found <= seen / 10 && found + 2 > seen / 10,
            "{found} of {seen}"
        );
        let text = tool::run(&["report", &part.file], 0);
        assert!(
            text.contains("a selection:") && text.contains("(1 of 10)"),
            "{text}"
        );
    });
}

#[test]
fn major_faults_alone() {
    guest::test(|_| {
        let _module = module::load_idle();
        let workload = workload();
        let file = module::kernel_image();
        let path = std::fs::canonicalize(&file).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let command = [workload.as_str(), "cold", "--path", &file, "--pages", "64"];
        for options in [
            &["--only", "major"][..],
            &["--only", "major", "--mapping", name],
        ] {
            let part = record(options, &command);
            part.assert_whole();
            let rows = part.rows(["fate", "mapping"]);
            assert!(rows.iter().all(|[fate, _]| fate == "major"), "{rows:?}");
            let of_file = rows.iter().filter(|[_, mapping]| mapping.ends_with(name));
            assert!(of_file.count() >= 1, "{options:?}: {rows:?}");
            let (passed_over, seen) = part.passed_over();
            assert!(passed_over + rows.len() as u64 <= seen, "{}", part.said);
        }
    });
}

#[test]
fn filters_that_make_no_sense_are_refused() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::open().unwrap();
        let set = |mut filter: Filter| session.with(uapi::FT_IOC_FILTER, &mut filter);
        let name = |mut name: FilterMapping| session.with(uapi::FT_IOC_FILTER_MAPPING, &mut name);
        let invalid = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        };
        let with_test = |mask, value| {
            let mut filter = Filter::default();
            filter.tests[0] = FlagTest { mask, value };
            filter
        };
        let with_range = |start, end| {
            let mut filter = Filter::default();
            filter.ranges[7] = AddressRange { start, end };
            filter
        };
        set(with_test(fault_flag::WRITE, fault_flag::WRITE)).unwrap();
        for bad in [
            with_test(1 << 16, 0),
            with_test(fault_flag::WRITE, fault_flag::WRITE | fault_flag::USER),
            with_test(0, fault_flag::USER),
            with_range(2, 1),
            with_range(1, 1),
            with_range(1, 0),
            Filter {
                reserved: 1,
                ..Filter::default()
            },
        ] {
            invalid(set(bad));
        }
        invalid(name(FilterMapping { name: [b'x'; 256] }));
        let mut heap = FilterMapping { name: [0; 256] };
        heap.name[..6].copy_from_slice(b"[heap]");
        for _ in 0..uapi::FILTER_MAPPINGS {
            name(heap).unwrap();
        }
        assert_eq!(name(heap).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        // Mappings are known to sessions with the side-band alone.
        invalid(session.start());
        let mut config = uapi::Config {
            ring_bytes: Setup::default().ring_bytes,
            flags: session_flag::SIDEBAND,
            ..uapi::Config::default()
        };
        session.with(uapi::FT_IOC_CONFIGURE, &mut config).unwrap();
        session.start().unwrap();
        invalid(set(Filter::default()));
        invalid(name(heap));
    });
}
