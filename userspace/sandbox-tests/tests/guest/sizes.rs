// SPDX-License-Identifier: GPL-2.0-only

//! The sizes of the pages that faults map, held against what the kernel counts of each size.

use std::{fs, path::PathBuf};

use sandbox_tests::{
    guest, module, program,
    setting::{self, Setting},
    trace::{Row, Trace},
};

const MEDIUM: u64 = 64 << 10;

/// Bytes of a page.
fn page() -> u64 {
    guest::page_size() as u64
}

/// Bytes of a huge page.
fn huge() -> u64 {
    page() / 8 * page()
}

/// Where the kernel's settings and counts of pages of a size are.
fn folder(bytes: u64) -> PathBuf {
    let name = format!("hugepages-{}kB", bytes >> 10);
    ["/sys/kernel/mm/transparent_hugepage", &name]
        .iter()
        .collect()
}

/// Allows this size of anonymous memory alone, for those who ask for it, while these are there; 0 is none.
fn allow(allowed: u64) -> [Setting; 2] {
    [MEDIUM, huge()].map(|bytes| {
        let setting = if bytes == allowed { "madvise" } else { "never" };
        Setting::choose(folder(bytes).join("enabled"), setting)
    })
}

/// Faults that got a page of a size, as the kernel counts them.
fn counted(bytes: u64) -> u64 {
    let file = folder(bytes).join("stats/anon_fault_alloc");
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// The faults of a command, with durations; the account must close.
fn faults(command: &[&str]) -> Vec<Row> {
    let trace = Trace::of_command(&["--latency"], command);
    trace.assert_balance();
    trace.faults()
}

/// The pages of eight huge ones.
fn pages() -> u64 {
    8 * huge() / page()
}

/// A program that writes so many of its own, one after another, and asks for large pages there.
fn filled() -> Vec<Row> {
    let workload = program::find(program::WORKLOAD);
    let library = workload.with_file_name("libfault_tracer_preload.so");
    let setting = format!("LD_PRELOAD={}", library.display());
    let workload = workload.to_str().unwrap();
    let command = ["env", "FAULT_TRACER_PRELOAD=huge", &setting, workload];
    let pages = pages().to_string();
    let habit = ["habit", "whole", "--mapped", "--pages", &pages];
    let mut rows = faults(&[&command[..], &habit].concat());
    rows.retain(|row| row.kind == "zero-fill" && row.fate == "minor");
    rows
}

fn of_size(rows: &[Row], bytes: u64) -> u64 {
    let such = rows.iter().filter(|row| row.page_bytes == Some(bytes));
    such.count() as u64
}

#[test]
fn memory_is_told_in_the_size_that_the_kernel_gave() {
    guest::test(|_| {
        if setting::is_realtime() {
            return;
        }
        let _module = module::load_idle();
        for bytes in [MEDIUM, huge()] {
            let _sizes = allow(bytes);
            let before = counted(bytes);
            let rows = filled();
            let large = of_size(&rows, bytes);
            assert_eq!(large, counted(bytes) - before, "of {bytes} bytes");
            // All of it, but for what does not fill a page of that size.
            assert!(
                large * bytes >= pages() * page() - 2 * bytes,
                "{large} of {bytes} bytes"
            );
            let small = of_size(&rows, page());
            assert_eq!(small + large, rows.len() as u64, "faults of other sizes");
            let sum = small * page() + large * bytes;
            let sum_pages = sum / page();
            assert!((pages()..pages() + 200).contains(&sum_pages), "{sum} bytes");
        }
        let _sizes = allow(0);
        let rows = filled();
        assert_eq!(of_size(&rows, page()), rows.len() as u64);
        assert!(rows.len() as u64 >= pages());
    });
}

#[test]
fn pages_of_hugetlbfs_of_files_and_copies_have_sizes_too() {
    guest::test(|_| {
        if setting::is_realtime() {
            return;
        }
        let _module = module::load_idle();
        let _sizes = allow(0);
        setting::reserve_huge_pages(4);
        let script = "import mmap\n\
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | 21 << 26\n\
            m = mmap.mmap(-1, 4 << 20, flags=flags)\n\
            m[0] = 1; m[2 << 20] = 1";
        let rows = faults(&["python3", "-c", script]);
        setting::reserve_huge_pages(0);
        let huge: Vec<_> = rows.iter().filter(|row| row.kind == "hugetlb").collect();
        assert_eq!(huge.len(), 2);
        assert!(huge
            .iter()
            .all(|row| row.page_bytes == Some(setting::RESERVED_PAGE)));
        for kind in ["file-read", "file-exec", "file-copy", "copy-on-write"] {
            let of_kind = rows
                .iter()
                .filter(|row| row.kind == kind && row.fate == "minor");
            let sizes: Vec<_> = of_kind.map(|row| row.page_bytes).collect();
            assert!(sizes.contains(&Some(page())), "{kind}: {sizes:?}");
            let others = sizes.iter().flatten().filter(|bytes| **bytes != page());
            assert_eq!(others.count(), 0, "{kind}: {sizes:?}");
        }
    });
}

#[test]
fn without_durations_and_of_failed_faults_no_size_is_reported() {
    guest::test(|_| {
        let _module = module::load_idle();
        let plain = Trace::of_command(&[], &["true"]);
        assert!(plain.faults().iter().all(|row| row.page_bytes.is_none()));
        let workload = program::find(program::WORKLOAD);
        let guarded = [workload.to_str().unwrap(), "entries", "--entry", "guard"];
        let rows = faults(&guarded);
        let failed: Vec<_> = rows.iter().filter(|row| row.fate == "failed").collect();
        assert!(failed.len() >= 20, "{} failed", failed.len());
        assert!(failed.iter().all(|row| row.page_bytes.is_none()));
    });
}

/// What `/proc/PID/smaps`, `/proc/PID/pagemap` and `/proc/vmstat` count of a program's own memory.
#[test]
fn sizes_add_up_to_what_proc_counts() {
    const PROGRAM: &str = "import ctypes, mmap\n\
        PAGE = mmap.PAGESIZE\n\
        HUGE = PAGE * PAGE // 8\n\
        memory = mmap.mmap(-1, 8 * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n\
        first = ctypes.addressof(ctypes.c_char.from_buffer(memory))\n\
        start = (first + HUGE - 1) // HUGE * HUGE - first\n\
        memory.madvise(mmap.MADV_HUGEPAGE, start, 4 * HUGE)\n\
        for n in range(3):\n\
        \x20   memory[start + n * HUGE + PAGE * n] = 1\n\
        for n in range(100):\n\
        \x20   memory[start + 4 * HUGE + 2 * PAGE * n] = 1\n\
        rss = huge = 0\n\
        inside = False\n\
        for line in open('/proc/self/smaps'):\n\
        \x20   name, *rest = line.split()\n\
        \x20   if '-' in name:\n\
        \x20       low, high = (int(part, 16) for part in name.split('-'))\n\
        \x20       inside = first <= low and high <= first + 8 * HUGE\n\
        \x20   elif inside and name == 'Rss:':\n\
        \x20       rss += int(rest[0]) * 1024\n\
        \x20   elif inside and name == 'AnonHugePages:':\n\
        \x20       huge += int(rest[0]) * 1024\n\
        with open('/proc/self/pagemap', 'rb') as pages:\n\
        \x20   pages.seek(first // PAGE * 8)\n\
        \x20   words = memoryview(pages.read(8 * HUGE // PAGE * 8)).cast('Q')\n\
        present = sum(word >> 63 for word in words)\n\
        print(first, rss, huge, present * PAGE)\n";
    let thp = || -> u64 {
        let text = fs::read_to_string("/proc/vmstat").unwrap();
        let count = |name| text.lines().find_map(|line| line.strip_prefix(name));
        count("thp_fault_alloc ").unwrap().parse().unwrap()
    };
    guest::test(|_| {
        if setting::is_realtime() {
            return;
        }
        let _module = module::load_idle();
        let _sizes = allow(huge());
        let folder = tempfile::tempdir().unwrap();
        let [script, said] = ["program.py", "said"].map(|name| folder.path().join(name));
        fs::write(&script, PROGRAM).unwrap();
        let command = format!("python3 {} >{}", script.display(), said.display());
        let before = thp();
        let rows = faults(&["sh", "-c", &command]);
        let counted = thp() - before;
        let said = fs::read_to_string(said).unwrap();
        let numbers: Vec<u64> = said
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        let [first, rss, large, present] = numbers[..] else {
            panic!("{said}");
        };
        let own: Vec<Row> = rows
            .into_iter()
            .filter(|row| (first..first + 8 * huge()).contains(&row.address))
            .collect();
        let sum: u64 = own.iter().filter_map(|row| row.page_bytes).sum();
        assert_eq!((sum, sum), (rss, present), "smaps and pagemap");
        assert_eq!(of_size(&own, huge()) * huge(), large, "smaps");
        assert_eq!((of_size(&own, huge()), counted), (3, 3), "vmstat");
        assert_eq!(of_size(&own, page()), 100);
    });
}
