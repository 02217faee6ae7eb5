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
    setting, tool,
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
    assert_eq!(nodes, "0-1\n", "this test is for a guest with two nodes");
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
    let reported = folder.path().join("truth");
    let workload = program::find(WORKLOAD);
    let command = [
        &[workload.to_str().unwrap(), "balanced"],
        options,
        &["--truth", reported.to_str().unwrap()],
    ];
    let before = hints();
    let trace = Trace::of_command(&["--latency"], &command.concat());
    let counted = hints() - before;
    trace.assert_balance();
    let truth = Truth::read(&reported);
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
        let end = ends
            .entry((row.pid, row.address / guest::page_size() as u64))
            .or_default();
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
        if setting::is_realtime() {
            return;
        }
        hurry();
        let _module = module::load_idle();
        let trace = balanced(&["--pages", "200"], 200);
        let said = tool::run(&["advise", trace.file().to_str().unwrap()], 0);
        assert!(said.contains("Keep the program on one NUMA node"), "{said}");
    });
}

/// By the node that getcpu(2) has for the CPU that a program is bound to.
#[test]
fn faults_are_counted_by_the_node_of_the_cpu() {
    const WHERE: &str = "import ctypes, os, sys\n\
        os.sched_setaffinity(0, [int(sys.argv[1])])\n\
        cpu, node = ctypes.c_uint(), ctypes.c_uint()\n\
        assert ctypes.CDLL(None).getcpu(ctypes.byref(cpu), ctypes.byref(node)) == 0\n\
        assert cpu.value == int(sys.argv[1])\n\
        print(node.value)";
    guest::test(|_| {
        let _module = module::load_idle();
        let mut nodes = Vec::new();
        for cpu in ["0", "1"] {
            let mut python = std::process::Command::new("python3");
            let said = python.args(["-c", WHERE, cpu]).output().unwrap();
            assert!(said.status.success(), "{said:?}");
            let node: u64 = String::from_utf8(said.stdout)
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            let trace = Trace::of_command(&[], &["taskset", "-c", cpu, "ls", "/"]);
            let path = trace.file();
            let file = path.to_str().unwrap();
            let by_node = |filter: &str| -> serde_json::Value {
                let table = ["--json", "--by", "node", "--filter", filter];
                let said = tool::run(&[&["report", file][..], &table].concat(), 0);
                serde_json::from_str(&said).unwrap()
            };
            let report = by_node(&format!("cpu={cpu}"));
            let groups = report["tables"][0]["groups"].as_array().unwrap();
            assert_eq!(groups.len(), 1, "{report:#}");
            assert_eq!(groups[0]["node"], node, "{report:#}");
            let rows = tool::run(&["export", file, "-f", "csv", "-o", "-"], 0);
            let mut lines = rows.lines().map(|line| line.split(',').collect::<Vec<_>>());
            let header = lines.next().unwrap();
            let column = header.iter().position(|name| *name == "cpu").unwrap();
            let all = lines.filter(|fields| fields[column] == cpu).count();
            assert!(all > 50, "{all}");
            assert_eq!(groups[0]["faults"], all, "{report:#}");
            let same = by_node(&format!("cpu={cpu} node={node}"));
            assert_eq!(same["tables"], report["tables"]);
            nodes.push(node);
        }
        assert_eq!(nodes, [0, 1], "the guest's CPUs are to be on two nodes");
    });
}

#[test]
fn faults_of_numa_balancing_of_huge_pages_too() {
    guest::test(|_| {
        if setting::is_realtime() {
            return;
        }
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
        if setting::is_realtime() {
            return;
        }
        fs::write("/proc/sys/kernel/numa_balancing", "0").expect("no NUMA balancing");
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let reported = folder.path().join("truth");
        let workload = program::find(WORKLOAD);
        let command = ["balanced", "--moved", "--pages", "200", "--truth"];
        let command = [
            &[workload.to_str().unwrap()],
            &command[..],
            &[reported.to_str().unwrap()],
        ];
        let trace = Trace::of_command(&[], &command.concat());
        trace.assert_balance();
        let truth = Truth::read(&reported);
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

/// By the node that move_pages(2) has for each page of a program.
#[test]
fn faults_tell_the_node_of_their_page() {
    const BOUND: &str = "import ctypes, mmap\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        PAGE, PAGES = mmap.PAGESIZE, 64\n\
        HUGE = PAGE * PAGE // 8\n\
        import os\n\
        MBIND, MOVE_PAGES = (235, 239) if os.uname().machine == 'aarch64' else (237, 279)\n\
        for node in 0, 1:\n\
        \x20   memory = mmap.mmap(-1, 2 * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n\
        \x20   first = ctypes.addressof(ctypes.c_char.from_buffer(memory))\n\
        \x20   start = (first + HUGE - 1) // HUGE * HUGE\n\
        \x20   mask = ctypes.c_ulong(1 << node)\n\
        \x20   args = [ctypes.c_void_p(first), ctypes.c_ulong(2 * HUGE), 2, ctypes.byref(mask), ctypes.c_ulong(8), 0]\n\
        \x20   assert libc.syscall(MBIND, *args) == 0, ctypes.get_errno()\n\
        \x20   for advice, size in (15, PAGE), (14, HUGE):\n\
        \x20       memory.madvise(mmap.MADV_DONTNEED)\n\
        \x20       memory.madvise(advice)\n\
        \x20       places = [start + n * PAGE for n in range(PAGES)] if size == PAGE else [start]\n\
        \x20       for place in places:\n\
        \x20           memory[place - first] = 1\n\
        \x20       pages = (ctypes.c_void_p * len(places))(*places)\n\
        \x20       nodes = (ctypes.c_int * len(places))()\n\
        \x20       assert libc.syscall(MOVE_PAGES, 0, ctypes.c_ulong(len(places)), pages, None, nodes, 0) == 0\n\
        \x20       for place, found in zip(places, nodes):\n\
        \x20           print(place, size, found)\n";
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let script = folder.path().join("bound.py");
        fs::write(&script, BOUND).unwrap();
        let command = format!("python3 {} >{}", script.display(), said.display());
        let trace = Trace::of_command(&["--latency"], &["sh", "-c", &command]);
        let rows = trace.faults();
        let mut nodes = BTreeMap::<u32, usize>::new();
        let said = fs::read_to_string(said).unwrap();
        for line in said.lines() {
            let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
            let [place, size, node] = numbers[..] else {
                panic!("{line}");
            };
            if size != guest::page_size() as u64 && setting::is_realtime() {
                continue;
            }
            let mut found = rows
                .iter()
                .filter(|row| row.address == place && row.page_bytes == Some(size));
            let row = found
                .next()
                .unwrap_or_else(|| panic!("no fault at {place:#x} of {size}"));
            assert_eq!(row.page_node, Some(node as u32), "{row:?}");
            *nodes.entry(node as u32).or_default() += 1;
        }
        assert!(
            nodes.len() == 2 && nodes.values().all(|count| *count >= 64),
            "{nodes:?}"
        );
        // And summed up.
        let table = [
            "report",
            "--by",
            "page-node",
            trace.file().to_str().unwrap(),
        ]
        .map(str::to_owned);
        let table: Vec<&str> = table.iter().map(String::as_str).collect();
        assert!(tool::run(&table, 0).contains("By page-node"));
    });
}
