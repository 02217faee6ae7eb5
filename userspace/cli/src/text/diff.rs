// SPDX-License-Identifier: GPL-2.0-only

//! What `fault-tracer diff` shows.

use std::collections::BTreeSet;

use fault_tracer_analysis::{
    diff::{compare, Certainty, Change, ChangedGroup, Side as Measured},
    Groups, Report,
};
use serde_json::{json, Map, Value as Json};

use super::{
    advise::part,
    numbers::{counted, grouped, memory, percent, short},
    report::value,
    report_json::{self, pretty, VERSION},
    style::Style,
    table::{Side, Table},
};
use crate::commands::diff::{Arguments, Sides};

/// How pages are compared.
enum PagesAs {
    /// As numbers of them.
    Pages,
    /// As memory, since they have not one size in all runs; with the sizes of the two sides.
    Memory { before: String, after: String },
}

impl PagesAs {
    fn of(sides: &Sides) -> Self {
        let sizes = |runs: &[Report]| {
            let sizes = runs.iter().map(|run| run.page_size.bytes());
            sizes.collect::<BTreeSet<_>>()
        };
        let (before, after) = (sizes(&sides.before), sizes(&sides.after));
        if before.union(&after).count() < 2 {
            return Self::Pages;
        }
        let said = |sizes: BTreeSet<u64>| {
            let sizes: Vec<_> = sizes.into_iter().map(memory).collect();
            sizes.join(" or ")
        };
        Self::Memory {
            before: said(before),
            after: said(after),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Memory { .. } => "memory",
        }
    }
}

/// How a number is written.
type Write = fn(u64) -> String;

/// The text.
pub fn text(arguments: &Arguments, sides: &Sides, style: Style) -> String {
    let mut lines = vec![
        style.bold(&format!(
            "{} before, {} after",
            counted(sides.before.len() as u64, "run", "runs"),
            counted(sides.after.len() as u64, "run", "runs")
        )),
        String::new(),
    ];
    let mut totals = Table::new(&[
        ("", Side::Left),
        ("before", Side::Right),
        ("", Side::Left),
        ("after", Side::Right),
        ("", Side::Left),
        ("change", Side::Right),
        ("", Side::Left),
    ]);
    for (name, change, write) in total_changes(sides) {
        if change.before.mean == 0.0 && change.after.mean == 0.0 {
            continue;
        }
        let mut row = vec![name.to_owned()];
        row.extend(cells(&change, write));
        totals.push(row);
    }
    lines.extend(totals.lines());
    let of_pages = PagesAs::of(sides);
    if let PagesAs::Memory { before, after } = &of_pages {
        lines.push(String::new());
        lines.push(format!(
            "  Pages have {before} before and {after} after: a fault brings another amount of memory."
        ));
    }
    if sides.before.len() < 2 || sides.after.len() < 2 {
        lines.push(String::new());
        lines.push(
            "  ? One run of a side does not tell change from chance: give two or more of each."
                .into(),
        );
    }
    for index in 0..sides.before[0].groups.len() {
        let (keys, changed) = changed(arguments, sides, index);
        let keys: Vec<_> = keys.iter().map(|key| (*key, key.name())).collect();
        let names: Vec<_> = keys.iter().map(|key| key.1).collect();
        lines.push(String::new());
        lines.push(style.bold(&format!("By {}", names.join(", "))));
        let with_time = changed
            .iter()
            .any(|group| group.time.before.mean + group.time.after.mean != 0.0);
        let mut heads = vec![
            ("faults before", Side::Right),
            ("", Side::Left),
            ("after", Side::Right),
            ("", Side::Left),
            ("change", Side::Right),
            ("", Side::Left),
            ("time", Side::Right),
            ("", Side::Left),
            (of_pages.name(), Side::Right),
            ("", Side::Left),
        ];
        heads.extend(names.iter().map(|name| (*name, Side::Left)));
        let mut table = Table::new(&heads);
        let differs = |group: &&ChangedGroup| {
            [&group.faults, &group.time, &group.bytes]
                .iter()
                .any(|change| change.difference() != 0.0)
        };
        let all: Vec<_> = changed.iter().filter(differs).collect();
        let shown = if arguments.top == 0 {
            all.len()
        } else {
            arguments.top
        };
        for group in all.iter().take(shown) {
            let mut row = cells(&group.faults, grouped);
            let signed = |change: &Change, write| {
                let [.., difference, mark] = &cells(change, write)[..] else {
                    unreachable!("a change has cells");
                };
                [difference.clone(), mark.clone()]
            };
            if with_time {
                row.extend(signed(&group.time, short));
            } else {
                row.extend([String::new(), String::new()]);
            }
            row.extend(match of_pages {
                PagesAs::Pages => signed(&group.pages, grouped),
                PagesAs::Memory { .. } => signed(&group.bytes, memory),
            });
            row.extend(
                keys.iter()
                    .zip(&group.values)
                    .map(|(key, of)| value(key.0, of)),
            );
            table.push(row);
        }
        if table.is_empty() {
            lines.push("  no difference".into());
            continue;
        }
        lines.extend(table.lines());
        if let Some(more @ 1..) = all.len().checked_sub(shown) {
            lines.push(format!(
                "  and {} more (--top 0 shows all)",
                grouped(more as u64)
            ));
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn total_changes(sides: &Sides) -> [(&'static str, Change, Write); 4] {
    [
        (
            "faults",
            sides.change(|run| run.overview.counts.faults),
            grouped,
        ),
        (
            "major",
            sides.change(|run| run.overview.counts.major),
            grouped,
        ),
        (
            "time in faults",
            sides.change(|run| run.overview.counts.time_ns),
            short,
        ),
        ("duration", sides.change(|run| run.overview.span_ns), short),
    ]
}

/// The groups of a table, compared.
fn changed(
    arguments: &Arguments,
    sides: &Sides,
    index: usize,
) -> (Vec<fault_tracer_analysis::Key>, Vec<ChangedGroup>) {
    let before: Vec<&Groups> = sides.before.iter().map(|run| &run.groups[index]).collect();
    let after: Vec<&Groups> = sides.after.iter().map(|run| &run.groups[index]).collect();
    let keys = before[0].keys().to_vec();
    (keys, compare(&before, &after, arguments.sort.into()))
}

/// Before and after with their deviations, the difference, and what it is worth.
fn cells(change: &Change, write: Write) -> Vec<String> {
    // CAST: means of counts.
    let mean = |side: &Measured| write(side.mean.round() as u64);
    let deviation = |side: &Measured| match side.deviation {
        Some(deviation) if side.mean > 0.0 => format!("± {}", percent(deviation / side.mean)),
        _ => String::new(),
    };
    let difference = change.difference();
    let sign = if difference < 0.0 { "-" } else { "+" };
    let text = match (difference == 0.0, change.part()) {
        (true, _) => "0".to_owned(),
        (false, Some(_)) => format!(
            "{sign}{} ({})",
            write(difference.abs().round() as u64),
            part(change)
        ),
        (false, None) => format!("{sign}{} (new)", write(difference.abs().round() as u64)),
    };
    let mark = match change.certainty() {
        _ if difference == 0.0 => "",
        Certainty::Change => "",
        Certainty::Chance => "may be chance",
        Certainty::Unknown => "?",
    };
    vec![
        mean(&change.before),
        deviation(&change.before),
        mean(&change.after),
        deviation(&change.after),
        text,
        mark.to_owned(),
    ]
}

/// A change as JSON.
fn change_json(change: &Change) -> Json {
    json!({
        "before": change.before.mean,
        "before_deviation": change.before.deviation,
        "after": change.after.mean,
        "after_deviation": change.after.deviation,
        "certainty": change.certainty().name(),
    })
}

/// The same as JSON, docs/json.md.
pub fn json(arguments: &Arguments, sides: &Sides) -> String {
    let tables = (0..sides.before[0].groups.len()).map(|index| {
        let (keys, changed) = changed(arguments, sides, index);
        let groups = changed.iter().map(|group| {
            let mut json = Map::new();
            for (key, of) in keys.iter().zip(&group.values) {
                json.insert(report_json::member(*key).into(), report_json::value(of));
            }
            json.insert("faults".into(), change_json(&group.faults));
            json.insert("time_ns".into(), change_json(&group.time));
            json.insert("pages".into(), change_json(&group.pages));
            json.insert("bytes".into(), change_json(&group.bytes));
            Json::from(json)
        });
        json!({
            "by": keys.iter().map(|key| key.name()).collect::<Vec<_>>(),
            "groups": groups.collect::<Vec<_>>(),
        })
    });
    let [faults, major, time, span] = total_changes(sides).map(|total| change_json(&total.1));
    pretty(&json!({
        "schema": "fault-tracer.diff",
        "version": VERSION,
        "runs_before": sides.before.len(),
        "runs_after": sides.after.len(),
        "totals": {"faults": faults, "major": major, "time_ns": time, "span_ns": span},
        "tables": tables.collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use fault_tracer_analysis::{Analysis, Key, Wanted};
    use fault_tracer_trace::{Fault, Metadata, PageSize, ResolvedFault, Row};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// A run in which 256 KiB are touched page by page.
    fn run_of(page_size: PageSize) -> Report {
        let wanted = Wanted {
            groups: vec![vec![Key::Kind]],
            ..Wanted::default()
        };
        let metadata = Metadata {
            page_size,
            ..Metadata::default()
        };
        let mut analysis = Analysis::new(&wanted, &metadata);
        for page in 0..(256 << 10) / page_size.bytes() {
            let fault = ResolvedFault {
                fault: Fault {
                    address: page << page_size.shift(),
                    ..Fault::default()
                },
                ..ResolvedFault::default()
            };
            analysis.add(&Row::Fault(Box::new(fault)), &mut ());
        }
        analysis.finish()
    }

    #[test]
    fn machines_whose_pages_have_different_sizes_are_compared_by_memory() {
        let arguments = Line::parse_from(["diff", "a", "b"]).arguments;
        let of = |kib: u64| run_of(PageSize::of_bytes(kib << 10).unwrap());
        let sides = |before, after| Sides {
            before: vec![of(before)],
            after: vec![of(after)],
        };
        let shown = text(&arguments, &sides(4, 64), Style::default());
        assert!(
            shown.contains("Pages have 4 KiB before and 64 KiB after"),
            "{shown}"
        );
        // As many bytes in fewer faults.
        let line = shown.lines().find(|line| line.ends_with("zero-fill"));
        assert!(line.unwrap().contains("-60 (-93.8 %)"), "{shown}");
        let head = shown.lines().find(|line| line.contains("faults before"));
        assert!(head.unwrap().contains("memory"), "{shown}");
        let json: Json = serde_json::from_str(&json(&arguments, &sides(4, 64))).unwrap();
        let group = &json["tables"][0]["groups"][0];
        assert_eq!(
            (&group["pages"]["before"], &group["pages"]["after"]),
            (&json!(64.0), &json!(4.0))
        );
        assert_eq!(group["bytes"]["before"], group["bytes"]["after"]);
        let same = text(&arguments, &sides(16, 16), Style::default());
        assert!(!same.contains("Pages have"), "{same}");
    }

    #[test]
    fn a_change_and_what_it_is_worth() {
        let change = |before: &[u64], after: &[u64]| Change {
            before: Measured::of(before),
            after: Measured::of(after),
        };
        let text = |of: Change| cells(&of, grouped).join("|");
        assert_eq!(text(change(&[100], &[150])), "100||150||+50 (+50.0 %)|?");
        assert_eq!(text(change(&[0], &[7])), "0||7||+7 (new)|?");
        assert_eq!(
            text(change(&[100, 100], &[50, 50])),
            "100|± 0 %|50|± 0 %|-50 (-50.0 %)|"
        );
        assert_eq!(
            text(change(&[90, 110], &[95, 115])),
            "100|± 14.1 %|105|± 13.5 %|+5 (+5.0 %)|may be chance"
        );
        assert_eq!(text(change(&[5], &[5])), "5||5||0|");
    }
}
