// SPDX-License-Identifier: GPL-2.0-only

//! What `fault-tracer advise` shows.

use fault_tracer_analysis::{
    advice::{Advice, Bound, Rule},
    diff::{Certainty, Change},
};
use serde_json::json;

use super::{
    numbers::{counted, file_name, grouped, memory, percent, short},
    report_json::{pretty, VERSION},
    style::Style,
    table::{Side, Table},
};
use crate::commands::advise::{settings, Counted, Verified};

/// The text of the advice.
pub fn text(advice: &[Advice], style: Style) -> String {
    if advice.is_empty() {
        return "No advice: no rule would save 128 faults and 2 % of all.\n".into();
    }
    let mut lines = Vec::new();
    for (n, of) in advice.iter().enumerate() {
        lines.push(style.bold(&format!("{}. {}", n + 1, headline(of))));
        lines.push(format!("   saves   {}", saving(of)));
        lines.push(format!("   why     {}", reason(of)));
        lines.push(format!("   costs   {}", cost(of)));
        for (n, line) in what_to_do(of).iter().enumerate() {
            let label = if n == 0 { "do" } else { "" };
            lines.push(format!("   {label:<7} {line}"));
        }
        lines.push(String::new());
    }
    lines.join("\n")
}

fn headline(advice: &Advice) -> String {
    let what = match advice.rule {
        Rule::Refault => "Keep freed memory",
        Rule::HugePages => "Use huge pages",
        Rule::ReadThenWrite => "Write memory first, or populate it",
        Rule::LateTouch => "Touch memory at the start",
        Rule::OrderFile => "Put functions that are executed side by side",
        Rule::FaultAround => "Map more of a file at each fault",
        Rule::PopulateFile => "Map the file's pages at once",
        Rule::Prefetch => "Read files before they are needed",
        Rule::DirtyAgain => "Write shared pages back less often",
        Rule::Relocation => "Link statically, or with fewer relocations",
        Rule::ExecStorm => "Start the program less often",
        Rule::ForkCopies => "Start programs without copying memory",
        Rule::Swap => "Keep the memory out of swap",
        Rule::NumaHints => "Keep the program on one NUMA node",
        Rule::Contention => "Look for what the faults wait for",
    };
    let program = advice.program.as_deref();
    match (program, advice.mapping.as_deref()) {
        (Some(program), Some(mapping)) => format!("{what}: {} ({mapping})", file_name(program)),
        (Some(program), None) => format!("{what}: {}", file_name(program)),
        (None, Some(mapping)) => format!("{what}: {mapping}"),
        (None, None) => what.to_owned(),
    }
}

fn saving(advice: &Advice) -> String {
    let part = percent(advice.saving as f64 / advice.faults.max(1) as f64);
    let faults = format!(
        "{} of {} ({part})",
        grouped(advice.saving),
        counted(advice.faults, "fault", "faults")
    );
    let mut text = match advice.bound {
        Bound::Exact => faults,
        Bound::AtMost => format!("at most {faults}"),
        Bound::Concerned => format!("unknown; {faults} are concerned"),
    };
    if advice.rule == Rule::Prefetch {
        text = format!("the wait of {text}: they become minor ones");
    }
    if let Some(time_ns) = advice.time_ns.filter(|time_ns| *time_ns != 0) {
        text += &format!(", at most {} in faults", short(time_ns));
    }
    text
}

fn number(advice: &Advice, name: &str) -> u64 {
    let found = advice.evidence.iter().find(|evidence| evidence.0 == name);
    found.map_or(0, |evidence| evidence.1)
}

fn reason(advice: &Advice) -> String {
    let of = |name| number(advice, name);
    match advice.rule {
        Rule::Refault => format!(
            "{} were filled with zeros again: {} in the heap, {} elsewhere",
            counted(of("pages"), "page's memory", "pages"),
            counted(of("filled-again-heap"), "time", "times"),
            counted(of("filled-again-elsewhere"), "time", "times")
        ),
        Rule::HugePages => format!(
            "{} of {} MiB were filled page by page: {}",
            counted(of("blocks"), "block", "blocks"),
            of("block-mib"),
            counted(of("pages"), "page", "pages")
        ),
        Rule::ReadThenWrite => format!(
            "{} of anonymous memory: a read maps the page of zeros, a write replaces it",
            counted(of("pages"), "page", "pages")
        ),
        Rule::LateTouch => format!(
            "{} of memory came in the second half of the run, in no order",
            counted(of("late-touches"), "first touch", "first touches")
        ),
        Rule::OrderFile => format!(
            "{}, of {} KiB together, faulted {} in {}",
            counted(of("functions"), "function", "functions"),
            grouped(of("function-kib")),
            counted(of("faults-in-functions"), "time", "times"),
            counted(of("processes"), "process", "processes")
        ),
        Rule::FaultAround => format!(
            "{} of files faulted in {} of {} KiB ({} of 64 KiB, the kernel's default)",
            counted(of("file-pages"), "page", "pages"),
            counted(of("windows"), "window", "windows"),
            of("window-kib"),
            grouped(of("windows-64-kib"))
        ),
        Rule::PopulateFile => format!(
            "{} of the mapping, from one end to the other",
            counted(
                of("file-reads"),
                "read faults on pages",
                "reads fault on pages"
            )
        ),
        Rule::Prefetch => format!(
            "{} of {} came from the disk",
            counted(of("major"), "page", "pages"),
            counted(of("files"), "file", "files")
        ),
        Rule::DirtyAgain => format!(
            "{} to shared pages that had been written back since the last write",
            counted(of("dirty-again"), "write", "writes")
        ),
        Rule::Relocation => format!(
            "the dynamic loader copied {} in {}",
            counted(of("copies-by-loader"), "page", "pages"),
            counted(of("runs"), "run", "runs")
        ),
        Rule::ExecStorm => format!(
            "{}, of {} or more each",
            counted(of("runs"), "run", "runs"),
            counted(of("fewest-faults"), "fault", "faults")
        ),
        Rule::ForkCopies => format!(
            "{} in children between fork and exec, and {} in the parent behind them",
            counted(
                of("copies-before-exec"),
                "page was copied",
                "pages were copied"
            ),
            grouped(of("copies-in-parent"))
        ),
        Rule::Swap => format!(
            "{} came back from swap, {} from the disk",
            counted(of("swap-in"), "page", "pages"),
            grouped(of("major"))
        ),
        Rule::NumaHints => format!(
            "{} found a page whose access the kernel had taken away, to see which node uses it",
            counted(of("numa-hint"), "fault", "faults")
        ),
        Rule::Contention => format!(
            "{} of the kernel's handler gave up a lock or waited for a page",
            counted(of("further-attempts"), "entry", "entries")
        ),
    }
}

fn cost(advice: &Advice) -> String {
    match advice.rule {
        Rule::Refault => "memory that is freed stays with the program".into(),
        Rule::HugePages => match advice.cost_bytes {
            0 => "no memory: the blocks are full".into(),
            bytes => format!("{} that is not touched now", memory(bytes)),
        },
        Rule::LateTouch => "a slower start; pages that are never needed are filled, too".into(),
        Rule::OrderFile => "a new build of the program".into(),
        Rule::FaultAround => "larger page tables; for all programs of the machine".into(),
        Rule::PopulateFile => "pages are read that may not be needed".into(),
        Rule::Prefetch => "the memory of the files' pages, earlier".into(),
        Rule::DirtyAgain => "more is lost when the machine crashes".into(),
        Rule::Relocation => "larger programs, and updates of libraries need new ones".into(),
        Rule::ExecStorm | Rule::ForkCopies => "a change of the program".into(),
        Rule::Swap => "less memory for others".into(),
        Rule::NumaHints => "memory is no longer moved to where it is used".into(),
        Rule::ReadThenWrite | Rule::Contention => "nothing".into(),
    }
}

/// Lines to type or to write, and what else to know.
fn what_to_do(advice: &Advice) -> Vec<String> {
    let program = advice.program.as_deref().map_or("PROGRAM", file_name);
    let set = settings(advice.rule);
    let mut lines = Vec::new();
    if advice.rule == Rule::ReadThenWrite {
        lines.push(
            "madvise(address, length, MADV_POPULATE_WRITE) before the first read; or, for what"
                .into(),
        );
        lines.push("the program maps itself, from outside:".into());
    }
    if !set.is_empty() {
        let words = set.iter().map(|set| format!("{}={}", set.name, set.value));
        lines.push(format!(
            "{} {program} …",
            words.collect::<Vec<_>>().join(" ")
        ));
    }
    let further: &[&str] = match advice.rule {
        Rule::Refault => &[
            "(glibc; both, as one alone makes it worse) or, in the program: mallopt(M_MMAP_THRESHOLD, …)",
            "and mallopt(M_TRIM_THRESHOLD, …); jemalloc: MALLOC_CONF=dirty_decay_ms:-1;",
            "mimalloc: MIMALLOC_PURGE_DELAY=-1; or reuse the buffers",
        ],
        Rule::HugePages => &[
            "needs always or madvise in /sys/kernel/mm/transparent_hugepage/enabled; it is for the",
            "memory of malloc; for other memory, in the program: madvise(address, length, MADV_HUGEPAGE)",
        ],
        Rule::PopulateFile => &[
            "from outside; in the program: madvise(address, length, MADV_POPULATE_READ), or read()",
            "instead of mmap()",
        ],
        Rule::LateTouch => &[
            "mlockall(MCL_CURRENT | MCL_FUTURE) or MAP_POPULATE before the work begins;",
            "Java: -XX:+AlwaysPreTouch. The faults are not saved, they come earlier",
        ],
        Rule::OrderFile => &[
            "fault-tracer advise FILE --json | jq -r '.advice[] | select(.rule == \"order-file\") |",
            ".functions[]' > order.txt; then compile with -ffunction-sections, and link by lld with",
            "-Wl,--symbol-ordering-file=order.txt (names of C++ and Rust: mangle them first)",
        ],
        Rule::DirtyAgain => &[
            "fewer calls of msync(2) and fsync(2); where there are none,",
            "sysctl vm.dirty_expire_centisecs=12000 vm.dirty_writeback_centisecs=6000,",
            "or the file on tmpfs",
        ],
        Rule::Relocation => &[
            "gcc -static, or -Wl,-Bsymbolic and -fvisibility=hidden for large libraries;",
            "prelink where it is there",
        ],
        Rule::ExecStorm => {
            &["a server, a zygote, or a shell's built-ins instead of one process for each task"]
        }
        Rule::ForkCopies => &["posix_spawn() or vfork() instead of fork() before exec"],
        Rule::Swap => &["echo BYTES > /sys/fs/cgroup/GROUP/memory.min"],
        Rule::NumaHints => &[
            "numactl --cpunodebind=0 --membind=0 PROGRAM …, where it fits on one node; or, for all",
            "programs of the machine: sysctl kernel.numa_balancing=0",
        ],
        Rule::Contention => &[
            "perf trace -e mmap,munmap,mprotect,madvise: what changes mappings while threads fault",
        ],
        Rule::ReadThenWrite | Rule::FaultAround | Rule::Prefetch => &[],
    };
    lines.extend(further.iter().map(|line| (*line).to_owned()));
    match advice.rule {
        Rule::FaultAround => lines.push(format!(
            "echo {} > /sys/kernel/debug/fault_around_bytes",
            number(advice, "window-kib") * 1024
        )),
        Rule::Prefetch => {
            lines.push("before the start, slowest first:".into());
            lines.extend(
                advice
                    .files
                    .iter()
                    .map(|file| format!("cat '{file}' > /dev/null")),
            );
        }
        _ => {}
    }
    lines
}

fn mean(mean: f64) -> String {
    // CAST: not negative, and far from 2^64.
    grouped(mean.round() as u64)
}

/// What was predicted beside what was measured.
pub fn verified(tried: &[Verified], runs: u32, style: Style) -> String {
    if tried.is_empty() {
        return "Nothing was tried: none of it can be applied from outside.\n".into();
    }
    let mut lines = vec![style.bold(&format!(
        "Measured in {} as it is, and as many with each",
        counted(runs.into(), "run", "runs")
    ))];
    let mut table = Table::new(&[
        ("rule", Side::Left),
        ("", Side::Left),
        ("faults before", Side::Right),
        ("after", Side::Right),
        ("predicted", Side::Right),
        ("off by", Side::Right),
        ("wall time", Side::Right),
        ("", Side::Left),
        ("CPU time", Side::Right),
        ("", Side::Left),
    ]);
    for of in tried {
        let predicted = of.faults.before.mean - of.predicted as f64;
        table.push(vec![
            of.rule.name().to_owned(),
            match of.counted {
                Counted::Faults => "",
                Counted::Major => "(major)",
                Counted::Traps => "(traps)",
            }
            .to_owned(),
            mean(of.faults.before.mean),
            mean(of.faults.after.mean),
            mean(predicted.max(0.0)),
            percent(of.error()),
            part(&of.wall_ns),
            certainty(&of.wall_ns).to_owned(),
            part(&of.cpu_ns),
            certainty(&of.cpu_ns).to_owned(),
        ]);
    }
    lines.extend(table.lines());
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// A change with its sign: `-12.3 %`.
pub fn part(change: &Change) -> String {
    match change.part() {
        Some(part) if part > 0.0 => format!("+{}", percent(part)),
        Some(part) => percent(part),
        None => String::new(),
    }
}

/// Whether to believe it.
fn certainty(change: &Change) -> &'static str {
    match change.certainty() {
        Certainty::Change => "",
        Certainty::Chance => "(may be chance)",
        Certainty::Unknown => "(of one run)",
    }
}

/// The same as JSON, docs/json.md.
pub fn json(subject: &str, advice: &[Advice], tried: Option<&[Verified]>) -> String {
    let one = |of: &Advice| {
        let evidence = of.evidence.iter();
        let set = settings(of.rule).into_iter();
        json!({
            "rule": of.rule.name(),
            "program": of.program.as_deref(),
            "mapping": of.mapping.as_deref(),
            "faults": of.faults,
            "saving": of.saving,
            "bound": of.bound.name(),
            "time_ns": of.time_ns,
            "cost_pages": of.cost_pages,
            "cost_bytes": of.cost_bytes,
            "evidence": evidence
                .map(|(name, number)| ((*name).to_owned(), (*number).into()))
                .collect::<serde_json::Map<_, _>>(),
            "files": of.files.iter().map(|file| &**file).collect::<Vec<_>>(),
            "functions": of.functions.iter().map(|name| &**name).collect::<Vec<_>>(),
            "environment": set
                .map(|set| (set.name.to_owned(), set.value.into()))
                .collect::<serde_json::Map<_, _>>(),
            "do": what_to_do(of),
        })
    };
    let change = |change: &Change| {
        json!({
            "before": change.before.mean,
            "before_deviation": change.before.deviation,
            "after": change.after.mean,
            "after_deviation": change.after.deviation,
            "certainty": change.certainty().name(),
        })
    };
    let tried = tried.map(|tried| {
        tried
            .iter()
            .map(|of| {
                json!({
                    "rule": of.rule.name(),
                    "counted": of.counted.name(),
                    "predicted_saving": of.predicted,
                    "measured_saving": of.saved(),
                    "faults": change(&of.faults),
                    "wall_ns": change(&of.wall_ns),
                    "cpu_ns": change(&of.cpu_ns),
                })
            })
            .collect::<Vec<_>>()
    });
    pretty(&json!({
        "schema": "fault-tracer.advise",
        "version": VERSION,
        "subject": subject,
        "advice": advice.iter().map(one).collect::<Vec<_>>(),
        "verified": tried,
    }))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A piece of advice.
    pub fn advice(rule: Rule) -> Advice {
        Advice {
            rule,
            program: Some("/usr/bin/churn".into()),
            mapping: None,
            faults: 1000,
            saving: 900,
            bound: Bound::Exact,
            time_ns: Some(1_500_000),
            cost_pages: 256,
            cost_bytes: 1 << 20,
            evidence: vec![("window-kib", 512), ("pages", 100)],
            files: vec!["/data/a".into()],
            functions: vec!["main".into()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::advice, *};
    use fault_tracer_analysis::diff::Side as Measured;

    #[test]
    fn advice_says_what_it_saves_and_what_to_type() {
        let text = text(&[advice(Rule::Refault)], Style::default());
        for part in [
            "1. Keep freed memory: churn",
            "saves   900 of 1,000 faults (90.0 %), at most 1.50 ms in faults",
            "do      MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 churn …",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn each_rule_has_something_to_do() {
        for rule in Rule::ALL {
            let advice = advice(rule);
            assert!(!what_to_do(&advice).is_empty(), "{rule:?}");
            assert!(!reason(&advice).is_empty() && !cost(&advice).is_empty());
        }
        let lines = what_to_do(&advice(Rule::FaultAround));
        assert_eq!(
            lines,
            ["echo 524288 > /sys/kernel/debug/fault_around_bytes"]
        );
        assert!(what_to_do(&advice(Rule::Prefetch)).contains(&"cat '/data/a' > /dev/null".into()));
    }

    #[test]
    fn nothing_to_gain_is_said() {
        assert!(text(&[], Style::default()).starts_with("No advice"));
        assert!(verified(&[], 5, Style::default()).starts_with("Nothing was tried"));
    }

    #[test]
    fn predicted_stands_beside_measured() {
        let change = |before: &[u64], after: &[u64]| Change {
            before: Measured::of(before),
            after: Measured::of(after),
        };
        let tried = Verified {
            rule: Rule::Refault,
            predicted: 900,
            counted: Counted::Faults,
            faults: change(&[1000, 1000], &[110, 110]),
            wall_ns: change(&[1000, 1002], &[500, 502]),
            cpu_ns: change(&[100, 200], &[110, 190]),
        };
        assert!((tried.error() - 0.01).abs() < 1e-9);
        let text = verified(std::slice::from_ref(&tried), 2, Style::default());
        let row = text.lines().last().unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "refault 1,000 110 100 1.0 % -50.0 % 0 % (may be chance)"
        );
        let json: serde_json::Value =
            serde_json::from_str(&json("x", &[advice(Rule::Refault)], Some(&[tried]))).unwrap();
        assert_eq!(json["verified"][0]["measured_saving"], 890.0);
        assert_eq!(json["advice"][0]["evidence"]["pages"], 100);
    }
}
