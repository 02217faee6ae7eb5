// SPDX-License-Identifier: GPL-2.0-only

//! What `fault-tracer stat` shows.

use std::time::Duration;

use fault_tracer_analysis::{diff::Side as Measured, Counts, Overview, Powers};
use fault_tracer_trace::{Fate, Kind};
use serde_json::json;

use super::{
    histogram,
    numbers::{counted, grouped, percent, share, short},
    report,
    report_json::{self, VERSION},
    style::Style,
    table::{Side, Table},
};
use crate::commands::stat::Run;

/// A number of each run.
fn measured(runs: &[Run], number: impl Fn(&Run) -> u64) -> Measured {
    Measured::of(&runs.iter().map(number).collect::<Vec<_>>())
}

/// A deviation as a part of the mean: `± 1.2 %`.
fn deviation(measured: &Measured) -> String {
    match measured.deviation {
        Some(deviation) if measured.mean > 0.0 => {
            format!("± {}", percent(deviation / measured.mean))
        }
        Some(_) => "± 0 %".into(),
        None => String::new(),
    }
}

/// CAST: means of numbers that are not negative, and far from 2^64.
fn rounded(mean: f64) -> u64 {
    mean.round() as u64
}

fn nanoseconds(time: Duration) -> u64 {
    // CAST: 2^64 nanoseconds are 584 years.
    time.as_nanos() as u64
}

/// The text.
pub fn text(what: &str, runs: &[Run], style: Style) -> String {
    let count = runs.len() as u64;
    let of_runs = match count {
        1 => String::new(),
        count => format!(" (mean of {})", counted(count, "run", "runs")),
    };
    let mut lines = vec![
        String::new(),
        style.bold(&format!("Page faults of {what}{of_runs}")),
        String::new(),
    ];
    lines.extend(totals(runs));
    let mean =
        |number: fn(&Overview) -> u64| rounded(measured(runs, |run| number(&run.overview)).mean);
    lines.extend(report::around(
        mean(|of| of.with_around),
        mean(|of| of.around),
    ));
    lines.push(String::new());
    lines.extend(kinds(runs));
    let mut powers = Powers::default();
    for run in runs {
        powers.merge(&run.overview.powers);
    }
    let histogram = histogram::lines(&powers);
    if !histogram.is_empty() {
        lines.push(String::new());
        let title = match count {
            1 => "How long they took (ns)".to_owned(),
            _ => "How long they took (ns), all runs".to_owned(),
        };
        lines.push(style.bold(&title));
        lines.extend(histogram);
    }
    lines.push(String::new());
    let lost: u64 = runs.iter().map(|run| run.account.lost()).sum();
    if lost != 0 {
        lines.push(style.red(&format!(
            "  {} lost: all numbers above are too low; try a larger --ring-kib",
            counted(lost, "fault was", "faults were")
        )));
        lines.push(String::new());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn totals(runs: &[Run]) -> Vec<String> {
    let mut table = Table::new(&[
        ("", Side::Right),
        ("", Side::Left),
        ("", Side::Right),
        ("", Side::Left),
    ]);
    let mut push = |of: &Measured, number: String, name: &str, rest: String| {
        table.push(vec![number, name.to_owned(), deviation(of), rest]);
    };
    let faults = measured(runs, |run| run.overview.counts.faults);
    let processes = measured(runs, |run| run.overview.tally.processes().into());
    push(
        &faults,
        grouped(rounded(faults.mean)),
        "faults",
        format!(
            "in {}",
            counted(rounded(processes.mean), "process", "processes")
        ),
    );
    for fate in Fate::ALL {
        let of = measured(runs, |run| run.overview.fates[fate as usize].faults);
        if of.mean != 0.0 {
            let part = percent(of.mean / faults.mean);
            push(
                &of,
                grouped(rounded(of.mean)),
                fate.name(),
                format!("{part} of all"),
            );
        }
    }
    let time = measured(runs, |run| run.overview.counts.time_ns);
    let wall = measured(runs, |run| nanoseconds(run.wall));
    push(
        &time,
        short(rounded(time.mean)),
        "in faults",
        shares(runs, &time, &wall),
    );
    push(&wall, short(rounded(wall.mean)), "wall time", String::new());
    if runs.iter().all(|run| run.cpu.is_some()) {
        let cpu = |run: &Run| run.cpu.unwrap_or_default();
        let user = measured(runs, |run| nanoseconds(cpu(run).user));
        let system = measured(runs, |run| nanoseconds(cpu(run).system));
        push(&user, short(rounded(user.mean)), "user", String::new());
        push(
            &system,
            short(rounded(system.mean)),
            "system",
            String::new(),
        );
    }
    let mut lines = table.lines();
    // It has no heads.
    lines.remove(0);
    lines
}

/// The time in faults as a part of others.
fn shares(runs: &[Run], time: &Measured, wall: &Measured) -> String {
    let mut shares = Vec::new();
    if wall.mean > 0.0 {
        shares.push(format!(
            "{} of the wall time",
            percent(time.mean / wall.mean)
        ));
    }
    let cpu = measured(runs, |run| {
        let cpu = run.cpu.unwrap_or_default();
        nanoseconds(cpu.user + cpu.system)
    });
    if cpu.mean > 0.0 {
        shares.push(format!("{} of the CPU time", percent(time.mean / cpu.mean)));
    }
    shares.join(", ")
}

fn kinds(runs: &[Run]) -> Vec<String> {
    let mut table = Table::new(&[
        ("faults", Side::Right),
        ("", Side::Left),
        ("share", Side::Right),
        ("time", Side::Right),
        ("", Side::Left),
        ("share", Side::Right),
        ("mean", Side::Right),
        ("longest", Side::Right),
        ("kind", Side::Left),
    ]);
    let of = |run: &Run, kind: Kind| run.overview.kinds[kind as usize].clone();
    let all = |pick: fn(&Counts) -> u64| -> u64 {
        runs.iter().map(|run| pick(&run.overview.counts)).sum()
    };
    let mut sums: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let mut sum = Counts::default();
            for run in runs {
                sum.merge(&of(run, kind));
            }
            (kind, sum)
        })
        .filter(|(_, sum)| sum.faults != 0)
        .collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.faults));
    for (kind, sum) in sums {
        let faults = measured(runs, |run| of(run, kind).faults);
        let time = measured(runs, |run| of(run, kind).time_ns);
        table.push(vec![
            grouped(rounded(faults.mean)),
            deviation(&faults),
            share(sum.faults, all(|counts| counts.faults)),
            short(rounded(time.mean)),
            deviation(&time),
            share(sum.time_ns, all(|counts| counts.time_ns)),
            sum.mean_ns().map(short).unwrap_or_default(),
            short(sum.longest_ns),
            kind.name().to_owned(),
        ]);
    }
    if table.is_empty() {
        return Vec::new();
    }
    table.lines()
}

/// The same as JSON: each run, docs/json.md.
pub fn json(what: &str, runs: &[Run]) -> String {
    let run = |run: &Run| {
        let overview: &Overview = &run.overview;
        json!({
            "totals": report_json::totals(overview),
            "fates": report_json::fates(overview),
            "kinds": report_json::kinds(overview),
            "histogram": report_json::histogram(&overview.powers),
            "wall_ns": nanoseconds(run.wall),
            "user_ns": run.cpu.map(|cpu| nanoseconds(cpu.user)),
            "system_ns": run.cpu.map(|cpu| nanoseconds(cpu.system)),
            "dropped": run.account.dropped,
            "overwritten": run.account.overwritten,
            "missed": run.account.missed,
        })
    };
    report_json::pretty(&json!({
        "schema": "fault-tracer.stat",
        "version": VERSION,
        "command": what,
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stat::{Counting, Cpu};
    use fault_tracer_recorder::Consumer as _;
    use fault_tracer_trace::{Account, ResolvedFault, Row};

    fn run(faults: u64) -> Run {
        let mut counting = Counting::default();
        for n in 0..faults {
            let fault = ResolvedFault {
                fate: if n == 0 { Fate::Major } else { Fate::Minor },
                duration_ns: Some(if n == 0 { 100_000 } else { 1_000 }),
                around: (n < 4).then_some(13),
                ..ResolvedFault::default()
            };
            counting.row(&Row::Fault(Box::new(fault))).unwrap();
        }
        Run {
            overview: counting.overview,
            account: Account::default(),
            wall: Duration::from_millis(2),
            cpu: Some(Cpu {
                user: Duration::from_micros(500),
                system: Duration::from_micros(500),
            }),
        }
    }

    #[test]
    fn one_run() {
        let text = text("sort big", &[run(101)], Style::default());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "Page faults of sort big");
        assert_eq!(lines[3], "      101  faults     in 1 process");
        assert_eq!(lines[4], "      100  minor      99.0 % of all");
        assert_eq!(lines[5], "        1  major      0.99 % of all");
        assert_eq!(
            lines[6],
            "   200 µs  in faults  10.0 % of the wall time, 20.0 % of the CPU time"
        );
        assert!(
            text.contains(
                "\n  52 pages mapped besides, by fault-around: 13.0 at each of 4 faults\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("zero-fill") && text.contains("[  64K,  128K)    1  |"),
            "{text}"
        );
        assert!(!text.contains("lost"));
    }

    #[test]
    fn repeated_runs_have_a_deviation() {
        let mut runs = [run(90), run(110)];
        runs[1].account.dropped = 7;
        let text = text("x", &runs, Style::default());
        assert!(text.contains("(mean of 2 runs)"));
        assert!(text.contains("100  faults     ± 14.1 %"), "{text}");
        assert!(text.contains("7 faults were lost"));
    }

    #[test]
    fn json_has_each_run() {
        let json: serde_json::Value = serde_json::from_str(&json("x", &[run(3), run(4)])).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["runs"][1]["totals"]["faults"], 4);
        assert_eq!(json["runs"][1]["totals"]["around"], 52);
        assert_eq!(json["runs"][0]["totals"]["with_around"], 3);
        assert_eq!(json["runs"][0]["kinds"]["zero-fill"]["time_ns"], 102_000);
        assert_eq!(json["runs"][0]["user_ns"], 500_000);
    }
}
