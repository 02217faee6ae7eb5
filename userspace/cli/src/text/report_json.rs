// SPDX-License-Identifier: GPL-2.0-only

//! `report --json`: the schema is in docs/json.md. A meaning that changes raises [`VERSION`]; further members do not.

use fault_tracer_analysis::{
    stand_out,
    trends::{trends, Trend},
    Cost, Counts, Group, Groups, Key, Outcome, Overview, Pattern, Powers, Program, Region,
    StandOut, Touch, Value, Verdict, What, WINDOW_BYTES,
};
use fault_tracer_trace::{Access, Fate, Kind, Metadata};
use serde_json::{json, Map, Value as Json};

use super::report::cold_files;
use crate::commands::report::{Arguments, Read};

/// Version of all schemas.
pub const VERSION: u32 = 1;

/// The report as JSON.
pub fn text(arguments: &Arguments, read: &Read) -> String {
    let report = &read.report;
    let overview = &report.overview;
    let order = arguments.sort.into();
    let regions = report.regions.as_ref();
    let json = json!({
        "schema": "fault-tracer.report",
        "version": VERSION,
        "trace": trace(&arguments.file.display().to_string(), &read.metadata, read.ended.is_whole()),
        "filtered": !arguments.filter.is_empty(),
        "totals": totals(overview),
        "fates": fates(overview),
        "accesses": names(Access::ALL.map(|access| {
            (access.name(), &overview.accesses[access as usize])
        })),
        "kinds": kinds(overview),
        "histogram": histogram(&overview.powers),
        "verdict": verdict(&report.verdict),
        "stand_out": stand_out(report, 3).iter().map(standing_out).collect::<Vec<_>>(),
        "trends": trends(report).iter().map(trend).collect::<Vec<_>>(),
        "tables": report.groups.iter().map(|groups| table(groups, order)).collect::<Vec<_>>(),
        "regions": regions.map(|found| found.regions.iter().map(region).collect::<Vec<_>>()),
        "programs": regions.map(|found| found.programs.iter().map(program).collect::<Vec<_>>()),
        "cold": regions.map(|found| {
            cold_files(found)
                .into_iter()
                .map(|file| json!({
                    "mapping": file.mapping.as_deref(),
                    "major": file.major.faults,
                    "time_ns": timed(overview.counts.timed, file.major.time_ns),
                    "first_ns": file.span_ns.0,
                    "last_ns": file.span_ns.1,
                }))
                .collect::<Vec<_>>()
        }),
    });
    pretty(&json)
}

fn trend(trend: &Trend) -> Json {
    let evidence = trend.evidence.iter();
    let evidence = evidence.map(|(name, number)| ((*name).to_owned(), (*number).into()));
    json!({
        "trend": trend.shape.name(),
        "faults": trend.faults,
        "part": trend.part,
        "program": trend.program.as_deref(),
        "mapping": trend.mapping.as_deref(),
        "begin_ns": trend.span_ns.map(|span| span.0),
        "end_ns": trend.span_ns.map(|span| span.1),
        "evidence": evidence.collect::<Map<_, _>>(),
    })
}

/// As people can read it, with a line's end.
pub fn pretty(json: &Json) -> String {
    // `{:#}` cannot fail where a String is written to.
    format!("{json:#}\n")
}

/// What a trace says of itself.
pub fn trace(file: &str, metadata: &Metadata, whole: bool) -> Json {
    json!({
        "file": file,
        "command": metadata.command,
        "host": metadata.host,
        "kernel": metadata.kernel,
        "clock": metadata.clock,
        "latency": metadata.latency,
        "attempts_apart": metadata.attempts_apart,
        "selection": metadata.selection,
        "page_bytes": metadata.page_size.bytes(),
        "whole": whole,
    })
}

/// A time that is null where no fault has a duration.
fn timed(count: u64, time_ns: u64) -> Option<u64> {
    (count != 0).then_some(time_ns)
}

/// Totals of all faults.
pub fn totals(overview: &Overview) -> Json {
    let mut json = counts(&overview.counts);
    json.extend(Map::from_iter([
        ("attempts".into(), overview.tally.attempts().into()),
        ("processes".into(), overview.tally.processes().into()),
        ("threads".into(), overview.tally.threads().into()),
        ("execs".into(), overview.execs.into()),
        ("forks".into(), overview.forks.into()),
        ("by_kernel".into(), overview.by_kernel.into()),
        ("by_gup".into(), overview.by_gup.into()),
        ("with_around".into(), overview.with_around.into()),
        ("around".into(), overview.around.into()),
        ("span_ns".into(), overview.span_ns.into()),
    ]));
    json.into()
}

fn counts(counts: &Counts) -> Map<String, Json> {
    Map::from_iter([
        ("faults".into(), counts.faults.into()),
        ("major".into(), counts.major.into()),
        ("timed".into(), counts.timed.into()),
        ("time_ns".into(), timed(counts.timed, counts.time_ns).into()),
        (
            "major_time_ns".into(),
            timed(counts.timed, counts.major_time_ns).into(),
        ),
        (
            "longest_ns".into(),
            timed(counts.timed, counts.longest_ns).into(),
        ),
    ])
}

/// The fates.
pub fn fates(overview: &Overview) -> Json {
    names(Fate::ALL.map(|fate| (fate.name(), &overview.fates[fate as usize])))
}

fn names<const N: usize>(named: [(&str, &Counts); N]) -> Json {
    let members = named.map(|(name, of)| (name.to_owned(), Json::from(counts(of))));
    Map::from_iter(members).into()
}

/// All kinds, with their histograms.
pub fn kinds(overview: &Overview) -> Json {
    let members = Kind::ALL.map(|kind| {
        let mut json = counts(&overview.kinds[kind as usize]);
        let powers = &overview.kind_powers[kind as usize];
        json.insert("histogram".into(), histogram(powers));
        (kind.name().to_owned(), Json::from(json))
    });
    Map::from_iter(members).into()
}

/// Steps of a histogram, from the first that is not 0 to the last.
pub fn histogram(powers: &Powers) -> Json {
    powers
        .used()
        .into_iter()
        .map(|(power, count)| {
            let from = if power == 0 { 0 } else { 1u64 << power };
            json!({"from_ns": from, "below_ns": 1u64 << (power + 1), "faults": count})
        })
        .collect()
}

fn verdict(verdict: &Verdict) -> Json {
    let account = &verdict.account;
    json!({
        "outcome": match verdict.outcome() {
            Outcome::Complete => "complete",
            Outcome::Incomplete => "incomplete",
            Outcome::Selection => "selection",
            Outcome::NotProven => "not-proven",
        },
        "faults": verdict.faults,
        "proven": verdict.proven(),
        "hits": account.hits,
        "recorded": account.recorded,
        "dropped": account.dropped,
        "overwritten": account.overwritten,
        "passed_over": account.passed_over,
        "missed": account.missed,
    })
}

fn standing_out(found: &StandOut) -> Json {
    let mut json = json!({
        "faults": found.cost.faults,
        "part": found.part,
        "time_part": found.time_part,
    });
    let (what, further) = match &found.what {
        What::Again {
            program,
            mapping,
            pages,
        } => (
            "again",
            json!({"program": program.as_deref(), "mapping": mapping.as_deref(), "pages": pages}),
        ),
        What::Major {
            mapping,
            mapping_part,
        } => (
            "major",
            json!({"mapping": mapping.as_deref(), "mapping_part": mapping_part}),
        ),
        What::ReadThenWrite => ("read-then-write", json!({})),
        What::ForkCopies { forks } => ("fork-copies", json!({"forks": forks})),
        What::Execs {
            execs,
            program,
            runs,
            least,
        } => (
            "execs",
            json!({"execs": execs, "program": program.as_deref(), "runs": runs, "fewest_faults": least}),
        ),
        What::Program { program, programs } => (
            "program",
            json!({"program": program.as_deref(), "programs": programs}),
        ),
        What::Mapping {
            program,
            mapping,
            pattern,
            pages,
        } => (
            "mapping",
            json!({
                "program": program.as_deref(),
                "mapping": mapping.as_deref(),
                "pattern": pattern.name(),
                "pages": pages,
            }),
        ),
        What::Burst {
            begin_ns,
            length_ns,
            time_part,
        } => (
            "burst",
            json!({"begin_ns": begin_ns, "length_ns": length_ns, "span_part": time_part}),
        ),
        What::FirstTouch => ("first-touch", json!({})),
    };
    json["what"] = what.into();
    if let (Json::Object(json), Json::Object(further)) = (&mut json, further) {
        json.extend(further);
    }
    json
}

/// The value of a key.
pub fn value(value: &Value) -> Json {
    match value {
        Value::Unknown => Json::Null,
        Value::Number(number) => (*number).into(),
        Value::Text(text) => (**text).into(),
    }
}

/// The member that holds the value of a key: a group has counts of its own, and `time` would look like one.
pub fn member(key: Key) -> &'static str {
    match key {
        Key::Time => "since_ns",
        key => key.name(),
    }
}

fn table(groups: &Groups, order: fault_tracer_analysis::Order) -> Json {
    let keys = groups.keys();
    let rows = groups.sorted(order).into_iter().map(|group| {
        let Group {
            values,
            counts: of,
            pages,
            powers,
        } = group;
        let mut json = counts(&of);
        json.insert("pages".into(), pages.into());
        if let Some(powers) = &powers {
            json.insert("histogram".into(), histogram(powers));
        }
        for (key, of) in keys.iter().zip(&values) {
            json.insert(member(*key).into(), value(of));
        }
        Json::from(json)
    });
    json!({
        "by": keys.iter().map(|key| key.name()).collect::<Vec<_>>(),
        "groups": rows.collect::<Vec<_>>(),
    })
}

fn cost(cost: &Cost) -> Json {
    json!({"faults": cost.faults, "time_ns": cost.time_ns})
}

fn region(region: &Region) -> Json {
    let mut json = counts(&region.counts);
    let touches = Touch::ALL.map(|touch| (touch.name().to_owned(), cost(&region.touched(touch))));
    let pattern = region.steps.pattern();
    let stride = match pattern {
        Pattern::Strided(pages) => Some(pages),
        _ => None,
    };
    let blocks = &region.blocks;
    let windows: Vec<_> = WINDOW_BYTES
        .iter()
        .zip(blocks.windows)
        .map(|(bytes, windows)| json!({"kib": bytes / 1024, "windows": windows}))
        .collect();
    json.extend(Map::from_iter([
        ("program".into(), json!(region.program.as_deref())),
        ("mapping".into(), json!(region.mapping.as_deref())),
        ("pages".into(), region.pages.into()),
        ("touches".into(), Map::from_iter(touches).into()),
        (
            "growth".into(),
            json!({
                "step_ns": region.growth.step_ns(),
                "late": region.late_touches,
                "steps": region.growth.steps().iter().map(|[first]| first).collect::<Vec<_>>(),
            }),
        ),
        ("pattern".into(), pattern.name().into()),
        ("stride_pages".into(), json!(stride)),
        (
            "huge_pages".into(),
            json!({
                "blocks": blocks.huge_blocks,
                "saving": blocks.huge_saving,
                "cost_pages": blocks.huge_cost_pages,
            }),
        ),
        (
            "fault_around".into(),
            json!({"file_pages": blocks.file_pages, "windows": windows}),
        ),
    ]));
    json.into()
}

fn program(program: &Program) -> Json {
    let mut json = counts(&program.counts);
    let growth: Vec<_> = program
        .growth
        .steps()
        .iter()
        .map(|[first, again]| json!({"first": first, "again": again}))
        .collect();
    json.extend(Map::from_iter([
        ("program".into(), json!(program.path.as_deref())),
        ("execs".into(), program.execs.into()),
        ("fewest_faults".into(), program.least_faults.into()),
        (
            "growth".into(),
            json!({
                "step_ns": program.growth.step_ns(),
                "late_part": program.late_part,
                "steps": growth,
            }),
        ),
        ("before_exec".into(), cost(&program.before_exec)),
        (
            "copies_before_exec".into(),
            cost(&program.copies_before_exec),
        ),
        (
            "copies_in_children".into(),
            cost(&program.copies_in_children),
        ),
        ("copies_in_parent".into(), cost(&program.copies_in_parent)),
    ]));
    json.into()
}
