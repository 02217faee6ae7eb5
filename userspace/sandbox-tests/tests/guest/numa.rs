// SPDX-License-Identifier: GPL-2.0-only

//! Faults by which the kernel balances memory between NUMA nodes: memory that is there. For a guest with
//! two nodes.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

use sandbox_tests::{
    guest, module,
    program::{self, WORKLOAD},
    tool,
    trace::{Row, Trace},
    truth::Truth,
};

/// `/proc/vmstat`'s count of such faults, of the whole machine.
fn hints() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").expect("cannot read /proc/vmstat");
    text.lines()
        .find_map(|line| line.strip_prefix("numa_hint_faults "))
        .and_then(|count| count.parse().ok())
        .expect("/proc/vmstat counts no NUMA hinting faults")
}

/// Has the kernel look often.
fn hurry() {
    let nodes = fs::read_to_string("/sys/devices/system/node/online").unwrap();
    assert_eq!(nodes, "0-1\n", "this test is for a guest with numa=fake=2");
    fs::write("/proc/sys/kernel/numa_balancing", "1").expect("no NUMA balancing");
    for (name, milliseconds) in [
        ("scan_delay_ms", "1"),
        ("scan_period_min_ms", "10"),
        ("scan_period_max_ms", "50"),
    ] {
        let path = format!("/sys/kernel/debug/sched/numa_balancing/{name}");
        fs::write(&path, milliseconds).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// Records memory that is written once and read for a while. Of each page the first fault fills it, and all
/// others, but for those that found it as it should be, are of the balancing.
fn balanced(options: &[&str], pages: usize) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("truth");
    let workload = program::find(WORKLOAD);
    let command = [
        &[workload.to_str().unwrap(), "balanced"],
        options,
        &["--truth", told.to_str().unwrap()],
    ];
    let before = hints();
    let trace = Trace::of_command(&["--latency"], &command.concat());
    let counted = hints() - before;
    trace.assert_balance();
    let truth = Truth::read(&told);
    let rows: Vec<_> = trace
        .faults()
        .into_iter()
        .filter(|row| truth.covers(row.pid, row.address))
        .collect();
    let of_kind = |kind: &str| rows.iter().filter(|row| row.kind == kind).count();
    assert_eq!(of_kind("zero-fill"), pages, "pages filled");
    assert_eq!(
        of_kind("zero-page"),
        0,
        "pages filled once are filled again"
    );
    let found = of_kind("numa-hint");
    for row in rows.iter().filter(|row| row.kind == "numa-hint") {
        assert!(row.has("present") && row.has("numa-hint"), "{}", row.flags);
    }
    // Those of other processes, and of this one elsewhere, are counted too.
    assert!(found > 0, "no fault of NUMA balancing among {}", rows.len());
    let all = one_at_a_time(&trace.faults());
    assert!(
        all <= counted,
        "{all} found, {counted} counted by the kernel"
    );
    let others = of_kind("spurious") + of_kind("migration") + of_kind("changing");
    assert_eq!(
        pages + found + others,
        rows.len(),
        "there are faults of other kinds"
    );
    trace
}

/// The faults of the balancing, but for those at a page at which another one is under way: the kernel counts the
/// first of them (`do_numa_page` looks whether the entry is still the same).
fn one_at_a_time(rows: &[Row]) -> u64 {
    let mut hints: Vec<&Row> = rows.iter().filter(|row| row.kind == "numa-hint").collect();
    hints.sort_by_key(|row| row.time_ns);
    let mut ends = HashMap::<(u32, u64), u64>::new();
    let mut count = 0;
    for row in hints {
        let end = ends.entry((row.pid, row.address >> 12)).or_default();
        if row.time_ns >= *end {
            count += 1;
        }
        let duration = row.duration_ns.expect("each has a duration");
        *end = (*end).max(row.time_ns + duration);
    }
    count
}

#[test]
fn faults_of_numa_balancing_are_told_from_first_touches() {
    guest::test(|_| {
        hurry();
        let _module = module::load_idle();
        let trace = balanced(&["--pages", "200"], 200);
        let said = tool::run(&["advise", trace.file().to_str().unwrap()], 0);
        assert!(said.contains("Keep the program on one NUMA node"), "{said}");
    });
}

#[test]
fn faults_of_numa_balancing_of_huge_pages_too() {
    guest::test(|_| {
        hurry();
        fs::write("/sys/kernel/mm/transparent_hugepage/enabled", "madvise").unwrap();
        let _module = module::load_idle();
        balanced(&["--pages", "4", "--huge"], 4);
    });
}

/// While a page is moved, its entry is first empty and then says so. Neither is memory touched for the first time.
#[test]
fn faults_of_pages_that_are_moved_are_told_from_first_touches() {
    guest::test(|_| {
        fs::write("/proc/sys/kernel/numa_balancing", "0").expect("no NUMA balancing");
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("truth");
        let workload = program::find(WORKLOAD);
        let command = ["balanced", "--moved", "--pages", "200", "--truth"];
        let command = [
            &[workload.to_str().unwrap()],
            &command[..],
            &[told.to_str().unwrap()],
        ];
        let trace = Trace::of_command(&[], &command.concat());
        trace.assert_balance();
        let truth = Truth::read(&told);
        let mut kinds = BTreeMap::<String, usize>::new();
        for row in trace.faults() {
            if truth.covers(row.pid, row.address) {
                *kinds.entry(row.kind).or_default() += 1;
            }
        }
        assert_eq!(
            kinds.remove("zero-fill"),
            Some(200),
            "pages filled: {kinds:?}"
        );
        assert!(
            kinds.contains_key("migration"),
            "no page was found moving: {kinds:?}"
        );
        // Moved when the handler looked, or not yet known.
        kinds.retain(|kind, _| !["migration", "spurious", "changing"].contains(&&**kind));
        assert!(kinds.is_empty(), "faults of other kinds: {kinds:?}");
    });
}
