// SPDX-License-Identifier: GPL-2.0-only

//! The interactive page: one file that needs nothing else.
//!
//! In this order, so that each part can be used while the next one is still being read: style; metadata with the
//! index of all chunks; a still picture, which is all there is where scripts are blocked; the coarsest level; the
//! program; names, threads and events; finer levels; the faults themselves.

use std::{
    io::{self, Write},
    sync::{
        atomic::{AtomicUsize, Ordering},
        Mutex,
    },
    thread,
};

use fault_tracer_trace::{Access, Fate, Kind};
use rustc_hash::FxHashMap;
use serde_json::{json, Value};

use crate::{
    encode::{compress, mark_chunk, raw_chunk, text, Less, CHUNK_FAULTS},
    input::{MissingHow, CUT_OFF, NONE},
    palette,
    pyramid::{pyramid, Level, Mark},
    raster::weights,
    scene::{Scene, Trend},
    svg::{multiple, svg},
    text::xml,
    Error, Size,
};

const STYLE: &str = include_str!("assets/page.css");
const PROGRAM: [&str; 8] = [
    include_str!("assets/decode.js"),
    include_str!("assets/text.js"),
    include_str!("assets/state.js"),
    include_str!("assets/draw.js"),
    include_str!("assets/frame.js"),
    include_str!("assets/query.js"),
    include_str!("assets/side.js"),
    include_str!("assets/input.js"),
];

/// Of the still picture in the page.
const STILL: Size = Size {
    width: 1200,
    height: 740,
};

/// What the page may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageOptions {
    /// The most bytes; detail is dropped until it fits.
    pub max_size: Option<u64>,
}

/// What the page is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageReport {
    /// Its bytes.
    pub bytes: u64,
    /// What was dropped to make it fit, in words.
    pub dropped: Vec<&'static str>,
}

/// The encoded chunks.
struct Chunks {
    /// Of each level: each chunk as text.
    levels: Vec<Vec<String>>,
    tables: String,
    raw: Vec<String>,
}

impl Chunks {
    fn bytes(chunks: &[String]) -> u64 {
        chunks.iter().map(|chunk| chunk.len() as u64 + 64).sum()
    }

    fn total(&self) -> u64 {
        let levels = self.levels.iter().map(|level| Self::bytes(level));
        levels.sum::<u64>() + self.tables.len() as u64 + Self::bytes(&self.raw)
    }
}

/// Writes the page of a scene.
///
/// # Errors
///
/// Those of `out`, inside; [`Error::TooBig`], [`Error::Draw`].
pub fn page(
    scene: &Scene,
    options: PageOptions,
    out: &mut dyn Write,
) -> Result<io::Result<PageReport>, Error> {
    let still = svg(scene, STILL)?;
    let mut levels = pyramid(scene);
    let mut less = Less::default();
    let mut dropped = Vec::new();
    let mut chunks = Chunks {
        levels: levels
            .iter()
            .map(|level| mark_chunks(scene, level))
            .collect(),
        tables: text(&compress(&json_bytes(&tables(scene)))),
        raw: raw_chunks(scene, less),
    };
    let fixed = still.len() + STYLE.len() + PROGRAM.iter().map(|part| part.len()).sum::<usize>();
    let index = |chunks: &Chunks, levels: &[Level], less, dropped: &[&str]| {
        json_bytes(&metadata(scene, levels, chunks, less, dropped))
    };
    let mut metadata = index(&chunks, &levels, less, &dropped);
    if let Some(most) = options.max_size {
        loop {
            let total = (fixed + metadata.len()) as u64 + chunks.total() + 2048;
            if total <= most {
                break;
            }
            if !less.low && !chunks.raw.is_empty() {
                less.low = true;
                dropped.push("the places within pages");
                chunks.raw = raw_chunks(scene, less);
            } else if !less.durations && !chunks.raw.is_empty() && !scene.duration_ns.is_empty() {
                less.durations = true;
                dropped.push("the lower digits of durations");
                chunks.raw = raw_chunks(scene, less);
            } else if !chunks.raw.is_empty() {
                dropped.push("the single faults");
                chunks.raw.clear();
            } else if chunks.levels.len() > 2 {
                chunks.levels.pop();
                levels.pop();
                dropped.push("a level of detail");
            } else {
                return Err(Error::TooBig { least: total, most });
            }
            metadata = index(&chunks, &levels, less, &dropped);
        }
    }
    let mut out = Counter { out, bytes: 0 };
    let written = write(&mut out, scene, &still, &metadata, &chunks);
    Ok(written.map(|()| PageReport {
        bytes: out.bytes,
        dropped,
    }))
}

struct Counter<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn write(
    out: &mut dyn Write,
    scene: &Scene,
    still: &str,
    metadata: &[u8],
    chunks: &Chunks,
) -> io::Result<()> {
    let title = match scene.metadata.command.as_str() {
        "" => "page faults".to_owned(),
        command => format!("{command} - page faults"),
    };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"generator\" content=\"fault-tracer {}\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n\
         <script type=\"application/json\" id=\"metadata\">",
        xml(env!("CARGO_PKG_VERSION")),
        xml(&title),
    )?;
    out.write_all(metadata)?;
    write!(
        out,
        "</script>\n</head>\n<body>\n<div id=\"still\">\n{still}</div>\n\
         <noscript><p id=\"noscript\">Scripts are blocked: this is the still picture. \
         With scripts, the page zooms to single faults.</p></noscript>\n"
    )?;
    if let Some(top) = chunks.levels.first() {
        for (index, text) in top.iter().enumerate() {
            chunk(out, format!("l0.{index}"), text)?;
        }
    }
    out.write_all(b"<script>\n\"use strict\";\n(() => {\n")?;
    for part in PROGRAM {
        out.write_all(part.as_bytes())?;
    }
    out.write_all(b"})();\n</script>\n")?;
    chunk(out, "tables".into(), &chunks.tables)?;
    for (level, of_level) in chunks.levels.iter().enumerate().skip(1) {
        for (index, text) in of_level.iter().enumerate() {
            chunk(out, format!("l{level}.{index}"), text)?;
        }
    }
    for (index, text) in chunks.raw.iter().enumerate() {
        chunk(out, format!("r{index}"), text)?;
    }
    out.write_all(b"</body>\n</html>\n")
}

/// An element that holds data.
fn chunk(out: &mut dyn Write, id: String, text: &str) -> io::Result<()> {
    writeln!(
        out,
        "<script type=\"text/plain\" id=\"{id}\">{text}</script>"
    )
}

/// JSON that can stand in a script element: nothing in it ends the element or begins a comment.
pub fn json_bytes(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    let mut escaped = String::with_capacity(text.len());
    // Outside of strings JSON has none of these.
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            c => escaped.push(c),
        }
    }
    escaped.into_bytes()
}

/// Runs over all indices on all CPUs, in order of the results.
fn parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(count.max(1));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                let result = work(index);
                // A worker that panicked ends the scope with its panic.
                if let Ok(mut done) = done.lock() {
                    done.push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn raw_chunks(scene: &Scene, less: Less) -> Vec<String> {
    let faults = scene.faults();
    parallel(faults.div_ceil(CHUNK_FAULTS), |index| {
        let from = index * CHUNK_FAULTS;
        let to = (from + CHUNK_FAULTS).min(faults);
        text(&raw_chunk(scene, from..to, less))
    })
}

fn mark_chunks(scene: &Scene, level: &Level) -> Vec<String> {
    let parts: Vec<&[Mark]> = level.marks.chunks(CHUNK_FAULTS).collect();
    parallel(parts.len(), |index| {
        text(&mark_chunk(parts[index], !scene.duration_ns.is_empty()))
    })
}

/// What the program has to know before anything is drawn.
fn metadata(
    scene: &Scene,
    levels: &[Level],
    chunks: &Chunks,
    less: Less,
    dropped: &[&str],
) -> Value {
    let metadata = &scene.metadata;
    // Mappings of panels and classes alone: the other names come later.
    let mut mappings: Vec<&str> = Vec::new();
    let mut index: FxHashMap<u32, usize> = FxHashMap::default();
    let mut mapping = |name: u32| match scene.name(name) {
        None => -1,
        Some(text) => *index.entry(name).or_insert_with(|| {
            mappings.push(text);
            mappings.len() - 1
        }) as i64,
    };
    let panels: Vec<Value> = scene
        .panels
        .iter()
        .zip(weights(scene))
        .map(|(panel, weight)| {
            let segments: Vec<Value> = panel
                .segments
                .iter()
                .map(|segment| {
                    let name = mapping(segment.mapping);
                    json!([
                        segment.y,
                        segment.pages,
                        format!("{:x}", segment.page),
                        name
                    ])
                })
                .collect();
            json!({
                "label": scene.label(panel),
                "pages": panel.pages,
                "faults": panel.faults,
                "file": panel.group.is_file(),
                "several": multiple(panel),
                "spaces": panel.spaces,
                "weight": weight,
                "segments": segments,
            })
        })
        .collect();
    let classes: Vec<Value> = scene
        .classes
        .iter()
        .zip(scene.class_counts())
        .map(|(class, count)| {
            let name = mapping(class.mapping);
            json!([
                class.panel,
                name,
                class.kind,
                class.access,
                class.fate,
                count,
                1u64.checked_shl(class.page_bits.into())
                    .filter(|&bytes| bytes > 1)
            ])
        })
        .collect();
    let level_index: Vec<Value> = levels
        .iter()
        .map(|level| {
            let chunks: Vec<Value> = level
                .marks
                .chunks(CHUNK_FAULTS)
                .map(|part| json!([part[0].column, part[part.len() - 1].column, part.len()]))
                .collect();
            json!({"bits": level.column_bits, "rows": level.row_bits, "threads": level.threads, "chunks": chunks})
        })
        .collect();
    let raw_index: Vec<Value> = if chunks.raw.is_empty() {
        Vec::new()
    } else {
        let parts = scene.time.chunks(CHUNK_FAULTS);
        parts
            .map(|part| json!([part[0], part[part.len() - 1], part.len()]))
            .collect()
    };
    let pair = |colour: &palette::Colour| json!([colour.0, colour.1]);
    let colours = |list: &[palette::Colour]| list.iter().map(pair).collect::<Vec<_>>();
    json!({
        "command": metadata.command,
        "host": metadata.host,
        "kernel": metadata.kernel,
        "clock": metadata.clock,
        "pageBytes": metadata.page_size.bytes(),
        "version": metadata.version,
        "wallStart": scene.wall_start_ns().to_string(),
        "wallError": metadata.wall_error_ns.to_string(),
        "start": scene.start_ns.to_string(),
        "step": scene.step_ns,
        "span": scene.span,
        "faults": scene.faults(),
        "threads": scene.threads.len(),
        "durations": !scene.duration_ns.is_empty(),
        "codes": !scene.codes.is_empty(),
        "callers": !scene.frames.is_empty(),
        "codesUnknown": scene.faults() as u64 - scene.code_counts().iter().sum::<u64>(),
        "lost": metadata.account.map(|account| account.lost()),
        "leftOut": scene.left_out,
        "dropped": dropped,
        "trends": scene.trends.iter().map(|trend| trend_of(scene, trend)).collect::<Vec<_>>(),
        "digits": !less.durations,
        "kinds": Kind::ALL.map(Kind::name),
        "accesses": Access::ALL.map(Access::name),
        "fates": Fate::ALL.map(Fate::name),
        "colours": {
            "kind": colours(&palette::KINDS),
            "access": colours(&palette::ACCESSES),
            "fate": colours(&palette::FATES),
            "other": colours(&palette::OTHERS),
            "duration": colours(&palette::DURATIONS),
        },
        "panels": panels,
        "mappings": mappings,
        "classes": classes,
        "levels": level_index,
        "raw": raw_index,
    })
}

/// A trend: its text, its detail, the first and the last step of its time, its mapping.
fn trend_of(scene: &Scene, trend: &Trend) -> Value {
    let (from_ns, to_ns) = trend.span_ns.unwrap_or((0, u64::MAX));
    let step = |time_ns: u64| (time_ns / scene.step_ns).min(scene.span);
    json!([
        trend.text,
        trend.detail,
        step(from_ns),
        step(to_ns),
        trend.mapping.as_deref()
    ])
}

/// What the program needs for hover, filters by thread, and marks. Names that are `null` are not known.
fn tables(scene: &Scene) -> Value {
    let name = |index: u32| match index {
        NONE => -1,
        index => i64::from(index),
    };
    // -1: nobody; -2: not known.
    let called_by = |caller: u32| match caller {
        NONE => -1,
        CUT_OFF => -2,
        index => i64::from(index),
    };
    let threads: Vec<Value> = scene
        .threads
        .iter()
        .zip(scene.thread_counts())
        .map(|(thread, count)| {
            json!([
                thread.pid,
                thread.tid,
                name(thread.process),
                name(thread.thread),
                count
            ])
        })
        .collect();
    let codes: Vec<Value> = scene
        .codes
        .iter()
        .zip(scene.code_counts())
        .map(|(&(symbol, object, caller), count)| match caller {
            NONE => json!([name(symbol), name(object), count]),
            caller => json!([name(symbol), name(object), count, called_by(caller)]),
        })
        .collect();
    let frames: Vec<Value> = scene
        .frames
        .iter()
        .map(|frame| json!([name(frame.name), called_by(frame.caller)]))
        .collect();
    let relative = |time_ns: u64| (time_ns - scene.start_ns) / scene.step_ns;
    let events: Vec<Value> = scene
        .events
        .iter()
        .map(|event| {
            let what = format!("{:?}", event.what).to_lowercase();
            let (time, event_name) = (relative(event.time_ns), name(event.name));
            json!([time, what, event.pid, event.tid, event_name, event.parent])
        })
        .collect();
    let missing: Vec<Value> = scene
        .missing
        .iter()
        .map(|missing| {
            let how = match missing.how {
                MissingHow::Dropped => "dropped",
                MissingHow::Overwritten => "overwritten",
                MissingHow::Gap => "gap",
            };
            let end = relative(missing.end_ns.max(missing.time_ns));
            json!([
                relative(missing.time_ns),
                end,
                missing.count,
                how,
                missing.whose
            ])
        })
        .collect();
    let bases: Vec<String> = scene.bases.iter().map(|base| format!("{base:x}")).collect();
    json!({
        "names": scene.names.iter().map(|name| &**name).collect::<Vec<&str>>(),
        "threads": threads,
        "codes": codes,
        "frames": frames,
        "events": events,
        "missing": missing,
        "bases": bases,
    })
}
