// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer record` beside `perf record -e page-faults -c 1 -d` on the same run: the same faults at the
//! same addresses, and a reason for each that only one of them has.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Command,
};

use sandbox_tests::{
    guest, module, perf,
    program::{self, Program},
    trace::{Row, Trace, Traced},
    truth::Truth,
};

/// How often each thread had a fault at each address.
type Multiset = BTreeMap<(u32, u64), usize>;

fn multiset(faults: impl Iterator<Item = (u32, u64)>) -> Multiset {
    let mut set = Multiset::new();
    for fault in faults {
        *set.entry(fault).or_default() += 1;
    }
    set
}

/// What is more often in one than in the other.
fn without(one: &Multiset, other: &Multiset) -> Multiset {
    one.iter()
        .filter_map(|(fault, &count)| {
            let more = count.saturating_sub(other.get(fault).copied().unwrap_or(0));
            (more != 0).then_some((*fault, more))
        })
        .collect()
}

/// Of each thread that has faults in a set, as many of its last faults as it has there, where the kernel made
/// them on its behalf.
fn last_faults(faults: &[&Row], of: &Multiset) -> Multiset {
    let mut left = BTreeMap::<u32, usize>::new();
    for ((tid, _), count) in of {
        *left.entry(*tid).or_default() += count;
    }
    let last = faults.iter().rev().filter(|row| {
        let left = left.get_mut(&row.tid).filter(|left| **left != 0);
        left.is_some_and(|left| {
            *left -= 1;
            !row.has("user")
        })
    });
    multiset(last.map(|row| (row.tid, row.address)))
}

/// perf, which records a process and its children to a file from [`Perf::of`] on.
struct Perf(Program);

impl Perf {
    fn of(pid: i32, folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let [control, answer] = ["control", "answer"].map(path);
        for fifo in [&control, &answer] {
            let made = Command::new("mkfifo").arg(fifo).status().unwrap();
            assert!(made.success(), "cannot make {fifo}");
        }
        let mut perf = Program::new(
            "perf",
            perf::RECORD.into_iter().chain([
                "-m",
                "16M",
                "--delay",
                "-1",
                "--control",
                &format!("fifo:{control},{answer}"),
                "-o",
                &path("perf.data"),
                "-p",
                &pid.to_string(),
            ]),
            None,
        );
        perf.go();
        // Open in both directions, so that opening waits for nobody, and until perf has answered: what a pipe
        // holds goes with the last who has it open.
        let open = |path: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let mut requests = open(&control);
        requests.write_all(b"enable\n").unwrap();
        let mut line = String::new();
        BufReader::new(open(&answer)).read_line(&mut line).unwrap();
        assert!(line.contains("ack"), "perf answers {line:?}");
        Self(perf)
    }

    /// Waits until the processes have ended; the samples.
    fn samples(self, folder: &Path) -> Multiset {
        self.0.wait().assert_success();
        perf::samples(&folder.join("perf.data"))
    }
}

#[test]
fn perf_and_record_see_the_same_faults_of_the_same_run() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let workload = program::find(program::WORKLOAD);
        fs::write(folder.join("a.c"), "int main(void) { return 0; }\n").unwrap();
        // A compilation, threads and forks, faults of get_user_pages, and accesses to what is not mapped.
        let script = format!(
            "cd {folder} && gcc -O2 -o a a.c && ./a && \
             {workload} storm --threads 4 --rounds 20 --truth truth && \
             {workload} gup --pages 50 --truth truth && \
             {workload} unmapped --count 20 --truth truth",
            folder = folder.display(),
            workload = workload.display()
        );
        let program = Program::new("sh", ["-c", &script], None);
        program.wait_at_gate();
        let perf = Perf::of(program.pid(), folder);
        let Traced { trace, usage, .. } = Trace::of_program(&["--ring-kib", "16384"], program);
        usage.assert_success();
        trace.assert_balance();
        let truth = Truth::read(&folder.join("truth"));
        let theirs = perf.samples(folder);

        // perf's event is raised by the exception, once, however often the fault is tried: `faults` has
        // each once, too. Where the kernel itself asks for a page (get_user_pages) there is no exception.
        let faults = trace.faults();
        let (asked, trapped): (Vec<_>, Vec<_>) = faults.iter().partition(|row| row.has("gup"));
        let of_truth = truth
            .faults
            .iter()
            .filter(|fault| fault.flags.contains("gup"));
        assert!(
            asked.len() >= of_truth.clone().count() && of_truth.clone().count() == 200,
            "{} faults of get_user_pages recorded, {} reported",
            asked.len(),
            of_truth.count()
        );
        let ours = multiset(trapped.iter().map(|row| (row.tid, row.address)));
        // And an exception at an address that nothing is mapped at is no fault to handle.
        let denied = multiset(truth.denied.iter().map(|place| (place.tid, place.address)));
        assert_eq!(denied.len(), 20, "accesses that were refused");

        let (only_ours, only_theirs) = (without(&ours, &theirs), without(&theirs, &ours));
        let count = |set: &Multiset| set.values().sum::<usize>();
        println!(
            "{} faults recorded: {} of get_user_pages, {} trapped, {} of them behind perf's end; perf: {} \
             samples, {} of them refused",
            faults.len(),
            asked.len(),
            count(&ours),
            count(&only_ours),
            count(&theirs),
            count(&only_theirs)
        );
        // perf stops before the thread has given its memory back (do_exit: perf_event_exit_task, then exit_mm):
        // when the kernel then tells the other threads of its end (clear_child_tid, robust futexes), in a
        // page that a fork has made read-only, that is the thread's last fault, and perf does not see it.
        let ends = last_faults(&trapped, &only_ours);
        assert!(
            only_ours == ends,
            "perf does not have {only_ours:x?}; at the threads' ends there were {ends:x?}"
        );
        assert!(
            only_theirs == denied,
            "recorded by perf alone: {only_theirs:x?}; refused: {denied:x?}"
        );
    });
}
