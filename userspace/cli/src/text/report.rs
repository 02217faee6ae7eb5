// SPDX-License-Identifier: GPL-2.0-only

//! What `fault-tracer report` shows.

use fault_tracer_analysis::{
    stand_out, trends::trends as find_trends, Cost, Group, Groups, Key, Order, Outcome, Overview,
    Pattern, Program, Region, RegionsFound, StandOut, Touch, Value, Verdict, What,
};
use fault_tracer_trace::{Fate, Metadata, Name, PageSize};

use super::{
    histogram,
    numbers::{counted, duration, file_name, grouped, memory, percent, share, short},
    style::Style,
    table::{Side, Table},
    trends,
};
use crate::commands::report::{Arguments, Read};

/// The text of a report.
pub fn text(arguments: &Arguments, read: &Read, style: Style) -> String {
    let report = &read.report;
    let overview = &report.overview;
    let mut lines = vec![style.bold(&title(
        &arguments.file.display().to_string(),
        &read.metadata,
    ))];
    if !arguments.filter.is_empty() {
        lines.push("Only the faults that match the filter are counted.".into());
    }
    lines.push(String::new());
    lines.extend(totals(overview));
    lines.push(balance(&report.verdict, !read.ended.is_whole(), style));
    let mut section = |title: &str, body: Vec<String>| {
        if !body.is_empty() {
            lines.push(String::new());
            lines.push(style.bold(title));
            lines.extend(body);
        }
    };
    if let Some(found) = &report.regions {
        if arguments.cold {
            section("Read from the disk", cold(found, overview, arguments.top));
        }
        if arguments.refault {
            section(
                "Touched first and again",
                refault(found, arguments.top, report.page_size),
            );
            section("Growth", growth(found, arguments.top, report.page_size));
        }
        if arguments.trends {
            section("Trends", trends::lines(&find_trends(report), arguments.top));
        }
        if arguments.by.is_empty() && !arguments.is_special() {
            let found = stand_out(report, 3);
            section(
                "What stands out",
                found.iter().flat_map(standing_out).collect(),
            );
        }
    }
    for groups in &report.groups {
        let names: Vec<_> = groups.keys().iter().map(|key| key.name()).collect();
        let title = format!("By {}", names.join(", "));
        section(
            &title,
            table(groups, arguments.sort.into(), arguments.top, overview),
        );
    }
    if let Some(found) = &report.regions {
        if arguments.by.is_empty() && !arguments.is_special() {
            section(
                "Mappings of each program",
                regions(found, overview.span_ns, arguments.top),
            );
        }
    }
    if arguments.by.is_empty() && !arguments.is_special() {
        section(
            "How long faults took (ns)",
            histogram::lines(&overview.powers),
        );
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn title(file: &str, metadata: &Metadata) -> String {
    let pages = match metadata.page_size {
        usual if usual == PageSize::default() => String::new(),
        other => format!(", pages of {}", memory(other.bytes())),
    };
    format!(
        "{file}: {} on {}, {}{pages}",
        metadata.command, metadata.host, metadata.kernel
    )
}

/// The lines on all faults.
pub fn totals(overview: &Overview) -> Vec<String> {
    let all = &overview.counts;
    let mut fates: Vec<_> = Fate::ALL
        .into_iter()
        .map(|fate| (overview.fates[fate as usize].faults, fate.name()))
        .filter(|fate| fate.0 != 0)
        .collect();
    fates.sort_by_key(|fate| std::cmp::Reverse(fate.0));
    let fates: Vec<_> = fates
        .into_iter()
        .map(|(count, name)| format!("{} {name}", grouped(count)))
        .collect();
    let mut lines = vec![format!(
        "  {} of {}, {} in {}{}{}",
        counted(all.faults, "fault", "faults"),
        counted(overview.tally.processes().into(), "process", "processes"),
        counted(overview.tally.threads().into(), "thread", "threads"),
        duration(std::time::Duration::from_nanos(overview.span_ns)),
        if fates.is_empty() { "" } else { ": " },
        fates.join(", ")
    )];
    if all.timed != 0 {
        let mut line = format!(
            "  {} in faults: mean {}, longest {}",
            short(all.time_ns),
            short(all.mean_ns().unwrap_or(0)),
            short(all.longest_ns)
        );
        if all.major != 0 {
            line += &format!(
                "; major ones {} ({})",
                short(all.major_time_ns),
                share(all.major_time_ns, all.time_ns)
            );
        }
        lines.push(line);
    }
    let further = overview.tally.attempts().saturating_sub(all.faults);
    if further != 0 {
        lines.push(format!(
            "  {} made again, for a lock or a page",
            counted(further, "attempt", "attempts")
        ));
    }
    lines.extend(around(overview.with_around, overview.around));
    lines
}

/// What fault-around has mapped besides, if it is known of any fault.
pub fn around(faults: u64, pages: u64) -> Option<String> {
    // CAST: far below 2^52.
    let mean = pages as f64 / faults as f64;
    (faults != 0).then(|| {
        format!(
            "  {} mapped besides, by fault-around: {mean:.1} at each of {}",
            counted(pages, "page", "pages"),
            counted(faults, "fault", "faults")
        )
    })
}

fn balance(verdict: &Verdict, cut: bool, style: Style) -> String {
    let lost = verdict.account.lost();
    let losses = match lost {
        0 => String::new(),
        lost => format!("; {} lost", grouped(lost)),
    };
    match verdict.outcome() {
        _ if cut => style.red("  incomplete: the trace cannot be read to its end"),
        Outcome::Complete => style.green(&format!(
            "  complete: {} of {} faults proven by the threads' counters{losses}",
            grouped(verdict.proven()),
            grouped(verdict.faults)
        )),
        Outcome::Selection => format!(
            "  a selection: {} were seen, {} of them passed over as asked{losses}",
            counted(verdict.account.seen(), "fault", "faults"),
            grouped(verdict.account.passed_over)
        ),
        Outcome::Incomplete => {
            style.red(&format!("  NOT COMPLETE{losses} (see fault-tracer verify)"))
        }
        Outcome::NotProven => {
            format!("  not proven: no thread's counters are in the trace{losses}")
        }
    }
}

fn name(name: &Option<Name>) -> &str {
    name.as_deref().unwrap_or("[unknown]")
}

fn short_name(of: &Option<Name>) -> &str {
    file_name(name(of))
}

/// How much something stands out.
fn weight(found: &StandOut) -> String {
    let mut text = format!(
        "{} ({} of all)",
        counted(found.cost.faults, "fault", "faults"),
        percent(found.part)
    );
    if let Some(part) = found.time_part.filter(|_| found.cost.time_ns != 0) {
        text += &format!(
            ", {} ({} of the time in faults)",
            short(found.cost.time_ns),
            percent(part)
        );
    }
    text
}

/// What stands out, and on the next line its evidence.
fn standing_out(found: &StandOut) -> [String; 2] {
    let (headline, evidence) = match &found.what {
        What::Again {
            program,
            mapping,
            pages,
        } => (
            "Memory is given back and touched again".to_owned(),
            format!(
                "most in {} of {}, which has {}: see --refault and fault-tracer advise",
                name(mapping),
                short_name(program),
                counted(*pages, "page", "pages")
            ),
        ),
        What::Major {
            mapping,
            mapping_part,
        } => (
            "Pages come from the disk".to_owned(),
            format!(
                "{} of these faults in {}: see --cold",
                percent(*mapping_part),
                name(mapping)
            ),
        ),
        What::ReadThenWrite => (
            "Pages are read before they are written".to_owned(),
            "each of these faults replaces the page of zeros that a read had mapped".to_owned(),
        ),
        What::ForkCopies { forks } => (
            "Pages are copied after forks".to_owned(),
            format!(
                "{} made; see --by process,kind",
                counted(*forks, "process was", "processes were")
            ),
        ),
        What::Execs {
            execs,
            program,
            runs,
            least,
        } => (
            "Starting programs".to_owned(),
            format!(
                "{}; {} alone runs {} and costs {} or more each time",
                counted(*execs, "program was executed", "programs were executed"),
                short_name(program),
                counted(*runs, "time", "times"),
                counted(*least, "fault", "faults")
            ),
        ),
        What::Program { program, programs } => (
            format!(
                "One program of {}: {}",
                grouped(*programs),
                short_name(program)
            ),
            format!("see --filter 'program={}'", name(program)),
        ),
        What::Mapping {
            program,
            mapping,
            pattern,
            pages,
        } => (
            format!("{} of {}", name(mapping), short_name(program)),
            format!(
                "{}, touched {}",
                counted(*pages, "page", "pages"),
                in_order(*pattern)
            ),
        ),
        What::Burst {
            begin_ns,
            length_ns,
            time_part,
        } => (
            format!("A burst {} after the first fault", short(*begin_ns)),
            format!(
                "all within {}, {} of the time",
                short(*length_ns),
                percent(*time_part)
            ),
        ),
        What::FirstTouch => (
            "Memory is touched for the first time".to_owned(),
            "anonymous pages that are written, each once".to_owned(),
        ),
    };
    [
        format!("  {headline}: {}", weight(found)),
        format!("      {evidence}"),
    ]
}

fn in_order(pattern: Pattern) -> String {
    match pattern {
        Pattern::Few => "a few times".into(),
        Pattern::Sequential => "one after the other".into(),
        Pattern::Backward => "one after the other, downwards".into(),
        Pattern::Strided(pages) => format!("every {} pages", pages.unsigned_abs()),
        Pattern::Same => "over and over".into(),
        Pattern::Random => "in random order".into(),
        Pattern::Mixed => "in mixed order".into(),
    }
}

/// The value of a key, for people.
pub fn value(key: Key, value: &Value) -> String {
    match (key, value) {
        (Key::File, Value::Unknown) => "[no file]".into(),
        (_, Value::Unknown) => "[unknown]".into(),
        (Key::Time, Value::Number(time_ns)) => format!("{:.3} s", *time_ns as f64 / 1e9),
        (Key::Size, Value::Number(bytes)) => memory(*bytes),
        (_, Value::Number(number)) => number.to_string(),
        (_, Value::Text(text)) => text.to_string(),
    }
}

fn table(groups: &Groups, order: Order, top: usize, overview: &Overview) -> Vec<String> {
    let all = &overview.counts;
    let mut heads = vec![
        ("faults", Side::Right),
        ("share", Side::Right),
        ("major", Side::Right),
        ("time", Side::Right),
        ("share", Side::Right),
        ("mean", Side::Right),
        ("pages", Side::Right),
    ];
    heads.extend(groups.keys().iter().map(|key| (key.name(), Side::Left)));
    let mut table = Table::new(&heads);
    let sorted = groups.sorted(order);
    let shown = if top == 0 { sorted.len() } else { top };
    for group in sorted.iter().take(shown) {
        let counts = &group.counts;
        let timed = counts.timed != 0;
        let or_nothing = |text: String| if timed { text } else { String::new() };
        let major = match counts.major {
            0 => String::new(),
            major => grouped(major),
        };
        let mut row = vec![
            grouped(counts.faults),
            share(counts.faults, all.faults),
            major,
            or_nothing(short(counts.time_ns)),
            or_nothing(share(counts.time_ns, all.time_ns)),
            or_nothing(short(counts.mean_ns().unwrap_or(0))),
            grouped(group.pages),
        ];
        let values = groups.keys().iter().zip(&group.values);
        row.extend(values.map(|(key, of)| value(*key, of)));
        table.push(row);
    }
    if table.is_empty() {
        return vec!["  no faults".into()];
    }
    let mut lines = table.lines();
    lines.extend(more(sorted.len(), shown));
    lines
}

fn more(all: usize, shown: usize) -> Option<String> {
    let more = all.checked_sub(shown).filter(|more| *more != 0)?;
    Some(format!(
        "  and {} more (--top 0 shows all)",
        grouped(more as u64)
    ))
}

/// The groups as comma-separated values.
pub fn csv(groups: &Groups, order: Order) -> String {
    let names = groups.keys().iter().map(|key| match key {
        Key::Time => "time_ns",
        key => key.name(),
    });
    let mut text = names.collect::<Vec<_>>().join(",");
    text.push_str(",faults,major,timed,fault_time_ns,longest_ns,pages\n");
    for Group {
        values,
        counts,
        pages,
        ..
    } in groups.sorted(order)
    {
        for value in &values {
            match value {
                Value::Unknown => {}
                Value::Number(number) => text.push_str(&number.to_string()),
                Value::Text(name) if name.contains([',', '"', '\n', '\r']) => {
                    text.push_str(&format!("\"{}\"", name.replace('"', "\"\"")));
                }
                Value::Text(name) => text.push_str(name),
            }
            text.push(',');
        }
        text.push_str(&format!(
            "{},{},{},{},{},{pages}\n",
            counts.faults, counts.major, counts.timed, counts.time_ns, counts.longest_ns
        ));
    }
    text
}

/// The files that were read from the disk, summed over the programs.
fn cold(found: &RegionsFound, overview: &Overview, top: usize) -> Vec<String> {
    let files = cold_files(found);
    if files.is_empty() {
        return vec!["  no fault was major: nothing came from the disk".into()];
    }
    let mut table = Table::new(&[
        ("major", Side::Right),
        ("share", Side::Right),
        ("time", Side::Right),
        ("mean", Side::Right),
        ("from", Side::Right),
        ("to", Side::Right),
        ("file", Side::Left),
    ]);
    let shown = if top == 0 { files.len() } else { top };
    for file in files.iter().take(shown) {
        let timed = overview.counts.timed != 0;
        let or_nothing = |time_ns: u64| if timed { short(time_ns) } else { String::new() };
        table.push(vec![
            grouped(file.major.faults),
            share(file.major.faults, overview.counts.major),
            or_nothing(file.major.time_ns),
            or_nothing(file.major.time_ns / file.major.faults),
            short(file.span_ns.0),
            short(file.span_ns.1),
            file.mapping.as_deref().unwrap_or("[unknown]").to_owned(),
        ]);
    }
    let mut lines = table.lines();
    lines.extend(more(files.len(), shown));
    lines
}

/// A mapping with major faults.
#[derive(Clone, Debug)]
pub struct ColdFile {
    /// Its name.
    pub mapping: Option<Name>,
    /// Its major faults.
    pub major: Cost,
    /// The first and the last of them, in nanoseconds since the first fault.
    pub span_ns: (u64, u64),
}

/// The mappings with major faults, the slowest first.
pub fn cold_files(found: &RegionsFound) -> Vec<ColdFile> {
    let mut files: Vec<ColdFile> = Vec::new();
    for region in &found.regions {
        let Some(span_ns) = region.major_span_ns else {
            continue;
        };
        let major = Cost {
            faults: region.counts.major,
            time_ns: region.counts.major_time_ns,
        };
        match files.iter_mut().find(|file| file.mapping == region.mapping) {
            Some(file) => {
                file.major.merge(&major);
                file.span_ns = (file.span_ns.0.min(span_ns.0), file.span_ns.1.max(span_ns.1));
            }
            None => files.push(ColdFile {
                mapping: region.mapping.clone(),
                major,
                span_ns,
            }),
        }
    }
    files.sort_by_key(|file| std::cmp::Reverse((file.major.time_ns, file.major.faults)));
    files
}

/// First touches and those after memory was given back.
fn refault(found: &RegionsFound, top: usize, page_size: PageSize) -> Vec<String> {
    let touched =
        |region: &Region| region.touched(Touch::First).faults + region.touched(Touch::Again).faults;
    let mut regions: Vec<_> = found
        .regions
        .iter()
        .filter(|region| touched(region) != 0)
        .collect();
    regions.sort_by_key(|region| std::cmp::Reverse(touched(region)));
    let mut table = Table::new(&[
        ("first", Side::Right),
        ("memory", Side::Right),
        ("again", Side::Right),
        ("share", Side::Right),
        ("time", Side::Right),
        ("program", Side::Left),
        ("mapping", Side::Left),
    ]);
    let shown = if top == 0 { regions.len() } else { top };
    for region in regions.iter().take(shown) {
        let first = region.touched(Touch::First);
        let again = region.touched(Touch::Again);
        table.push(vec![
            grouped(first.faults),
            memory(first.faults.saturating_mul(page_size.bytes())),
            grouped(again.faults),
            share(again.faults, touched(region)),
            if again.time_ns == 0 {
                String::new()
            } else {
                short(again.time_ns)
            },
            short_name(&region.program).to_owned(),
            name(&region.mapping).to_owned(),
        ]);
    }
    if table.is_empty() {
        return vec!["  no anonymous memory was touched".into()];
    }
    let mut lines = table.lines();
    lines.extend(more(regions.len(), shown));
    lines
}

/// How the memory of programs grew over time: a sign for each step.
fn growth(found: &RegionsFound, top: usize, page_size: PageSize) -> Vec<String> {
    let mut lines = Vec::new();
    let first = |program: &Program| {
        program
            .growth
            .steps()
            .iter()
            .map(|step| step[0])
            .sum::<u64>()
    };
    let mut programs: Vec<_> = found.programs.iter().collect();
    programs.retain(|program| first(program) != 0);
    programs.sort_by_key(|program| std::cmp::Reverse(first(program)));
    let shown = if top == 0 { programs.len() } else { top };
    for program in programs.iter().take(shown) {
        let firsts: Vec<_> = program.growth.steps().iter().map(|step| step[0]).collect();
        let late = program.late_part.unwrap_or(0.0);
        lines.push(format!(
            "  {} touched first by {}, {} of it in the second half of the time",
            memory(first(program).saturating_mul(page_size.bytes())),
            short_name(&program.path),
            percent(late)
        ));
        lines.push(format!(
            "      {}  (steps of {})",
            spark(&firsts),
            short(program.growth.step_ns())
        ));
    }
    lines
}

/// Numbers as a line of bars.
pub fn spark(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    numbers
        .iter()
        .map(|number| match number {
            0 => ' ',
            number => BARS[((number * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
        })
        .collect()
}

/// The parts of the trace's time that the growth of a mapping is shown in.
const GROWTH_PARTS: usize = 16;

/// The mappings of programs: how they grow and are walked, and what would save faults in them.
fn regions(found: &RegionsFound, span_ns: u64, top: usize) -> Vec<String> {
    let mut table = Table::new(&[
        ("faults", Side::Right),
        ("pages", Side::Right),
        ("again", Side::Right),
        ("saved by huge pages", Side::Right),
        ("by fault-around of 2 MiB", Side::Right),
        ("growth over time", Side::Left),
        ("pattern", Side::Left),
        ("program", Side::Left),
        ("mapping", Side::Left),
    ]);
    let shown = if top == 0 { found.regions.len() } else { top };
    let or_nothing = |count: u64| match count {
        0 => String::new(),
        count => grouped(count),
    };
    for region in found.regions.iter().take(shown) {
        let blocks = &region.blocks;
        let around = blocks.file_pages - blocks.windows[blocks.windows.len() - 1];
        let pattern = region.steps.pattern();
        table.push(vec![
            grouped(region.counts.faults),
            grouped(region.pages),
            or_nothing(region.touched(Touch::Again).faults),
            or_nothing(blocks.huge_saving),
            or_nothing(around),
            match region.touched(Touch::First).faults {
                0 => String::new(),
                _ => format!(
                    "|{}|",
                    spark(&region.growth.parts(0, span_ns, GROWTH_PARTS))
                ),
            },
            match pattern {
                Pattern::Strided(pages) => format!("strided by {pages}"),
                pattern => pattern.name().to_owned(),
            },
            short_name(&region.program).to_owned(),
            name(&region.mapping).to_owned(),
        ]);
    }
    let mut lines = table.lines();
    lines.extend(more(found.regions.len(), shown));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::{Arguments as Line, Subcommand},
        commands::report::Ended,
        text::report_json,
    };
    use clap::Parser as _;
    use fault_tracer_analysis::{Analysis, Wanted};
    use fault_tracer_trace::{Fault, Kind, Place, ResolvedFault, Row};

    fn arguments(options: &str) -> Arguments {
        let words = ["fault-tracer", "report", "x.arrow"];
        let words = words.into_iter().chain(options.split_whitespace());
        match Line::parse_from(words).subcommand {
            Subcommand::Report(arguments) => arguments,
            _ => unreachable!(),
        }
    }

    /// A trace of 300 faults of churn in the heap, and of 20 of a file from the disk.
    fn read(arguments: &Arguments) -> Read {
        read_of(arguments, PageSize::default())
    }

    fn read_of(arguments: &Arguments, page_size: PageSize) -> Read {
        let wanted = Wanted {
            filter: arguments.filter.clone(),
            groups: match arguments.by.as_slice() {
                [] => vec![vec![Key::Kind], vec![Key::Mapping]],
                by => by.iter().map(|keys| keys.0.clone()).collect(),
            },
            step_ns: 1_000_000_000,
            regions: true,
            code: false,
        };
        let metadata = Metadata {
            command: "a --once".into(),
            host: "here".into(),
            kernel: "Linux 7".into(),
            page_size,
            ..Metadata::default()
        };
        let mut analysis = Analysis::new(&wanted, &metadata);
        for n in 0..320u64 {
            let cold = n >= 300;
            let mapping = if cold { "/data,1" } else { "[heap]" };
            let fault = ResolvedFault {
                fault: Fault {
                    pid: 7,
                    tid: 7,
                    time_ns: n * 10_000_000,
                    address: if cold { n << 16 } else { (n % 100) << 12 },
                    ..Fault::default()
                },
                program: Some("/bin/a".into()),
                place: Some(Place {
                    name: mapping.into(),
                    permissions: "rw-p".into(),
                    file_offset: cold.then_some(0),
                }),
                kind: if cold { Kind::FileRead } else { Kind::ZeroFill },
                fate: if cold { Fate::Major } else { Fate::Minor },
                duration_ns: Some(if cold { 1_000_000 } else { 1_000 }),
                ..ResolvedFault::default()
            };
            analysis.add(&Row::Fault(Box::new(fault)), &mut ());
        }
        Read {
            metadata,
            report: analysis.finish(),
            ended: Ended::whole(),
        }
    }

    fn shown(options: &str) -> String {
        shown_of(options, PageSize::default())
    }

    fn shown_of(options: &str, page_size: PageSize) -> String {
        let arguments = arguments(options);
        text(
            &arguments,
            &read_of(&arguments, page_size),
            Style::default(),
        )
    }

    #[test]
    fn memory_is_counted_in_pages_of_the_traced_machine() {
        let of = |options, kib: u64| shown_of(options, PageSize::of_bytes(kib << 10).unwrap());
        // 100 pages of 4 KiB, which are touched three times.
        for (kib, line) in [
            (4, "    100  400 KiB    200  66.7 %"),
            (16, "     25  400 KiB    275  91.7 %"),
            (64, "      7  448 KiB    293  97.7 %"),
        ] {
            let text = of("--refault", kib);
            assert!(text.contains(line), "{kib}: {text}");
        }
        let first = |kib| of("", kib).lines().next().unwrap().to_owned();
        assert_eq!(first(4), "x.arrow: a --once on here, Linux 7");
        assert_eq!(
            first(16),
            "x.arrow: a --once on here, Linux 7, pages of 16 KiB"
        );
        let sizes = [4096, 65536, 32 << 20].map(|bytes| value(Key::Size, &Value::Number(bytes)));
        assert_eq!(sizes, ["4 KiB", "64 KiB", "32.0 MiB"]);
    }

    #[test]
    fn the_first_screen() {
        let text = shown("");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "x.arrow: a --once on here, Linux 7");
        assert_eq!(
            lines[2..4],
            [
                "  320 faults of 1 process, 1 thread in 3.1 s: 300 minor, 20 major",
                "  20.3 ms in faults: mean 63.4 µs, longest 1.00 ms; major ones 20.0 ms (98.5 %)"
            ]
        );
        for part in [
            "What stands out\n  Pages come from the disk: 20 faults (6.2 % of all), 20.0 ms (98.5 % of the time in faults)",
            "100 % of these faults in /data,1: see --cold",
            "  Memory is given back and touched again: 200 faults (62.5 % of all)",
            "By kind\n  faults   share  major     time   share     mean  pages  kind\n     300  93.8 %",
            "Mappings of each program\n",
            "How long faults took (ns)\n  [  512,    1K)  300  |",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn tables_that_are_asked_for_stand_alone() {
        let text = shown("--by mapping,kind --sort time --top 1");
        let row = text.lines().nth(8).unwrap();
        assert!(row.ends_with("/data,1  file-read"), "{text}");
        assert!(text.contains("  and 1 more (--top 0 shows all)"));
        assert!(!text.contains("What stands out"));
        let text = shown("--by kind --filter kind=major");
        assert!(text.contains("Only the faults that match the filter"));
        assert!(!text.contains("zero-fill"), "{text}");
    }

    #[test]
    fn each_mapping_shows_when_it_grew() {
        let text = shown("");
        let row = text
            .lines()
            .find(|line| line.contains("sequential") && line.ends_with("[heap]"))
            .unwrap_or_else(|| panic!("{text}"));
        assert!(row.contains("  |█████           |  "), "{text}");
        // A file's pages are no memory that grows.
        let row = text.lines().find(|line| line.ends_with("/data,1")).unwrap();
        assert!(!row.contains('|'), "{text}");
    }

    #[test]
    fn cold_files_and_refaults() {
        let text = shown("--cold");
        let row = text.lines().find(|line| line.ends_with("/data,1")).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "20 100 % 20.0 ms 1.00 ms 3.00 s 3.19 s /data,1"
        );
        let text = shown("--refault");
        let row = text.lines().find(|line| line.ends_with("[heap]")).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(words.join(" "), "100 400 KiB 200 66.7 % 200 µs a [heap]");
        assert!(text.contains("400 KiB touched first by a, 0 % of it in the second half"));
    }

    #[test]
    fn values_with_commas_are_quoted() {
        let arguments = arguments("--by mapping --csv");
        let csv = csv(&read(&arguments).report.groups[0], Order::Faults);
        assert_eq!(
            csv,
            "mapping,faults,major,timed,fault_time_ns,longest_ns,pages\n\
             [heap],300,0,300,300000,1000,100\n\
             \"/data,1\",20,20,20,20000000,1000000,20\n"
        );
    }

    #[test]
    fn json_has_the_same_numbers() {
        let arguments = arguments("--json");
        let json = report_json::text(&arguments, &read(&arguments));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["schema"], "fault-tracer.report");
        assert_eq!(json["totals"]["faults"], 320);
        assert_eq!(json["kinds"]["file-read"]["major_time_ns"], 20_000_000);
        assert_eq!(json["cold"][0]["mapping"], "/data,1");
        assert_eq!(json["stand_out"][0]["what"], "major");
        assert_eq!(json["tables"][1]["groups"][0]["pages"], 100);
        assert_eq!(json["regions"][0]["touches"]["again"]["faults"], 200);
        let growth = &json["regions"][0]["growth"];
        let steps = growth["steps"].as_array().unwrap();
        let sum: u64 = steps.iter().map(|step| step.as_u64().unwrap()).sum();
        assert_eq!((sum, &growth["late"]), (100, &0.into()));
    }

    #[test]
    fn lines_of_bars() {
        assert_eq!(spark(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!(spark(&[]), "");
    }
}
