// SPDX-License-Identifier: GPL-2.0-only

//! A trace laid out: what every picture is drawn from.

use std::borrow::Borrow;

use fault_tracer_trace::{
    export::{Band, Bands, Symbols},
    Kind, Metadata, Name, PageSize, Row,
};
use rustc_hash::FxHashMap;

use crate::{
    input::{Builder, CodeKey, Event, Frame, Input, Missing, Processes, Thread, What, NONE},
    layout::{layout, Panel},
    regions::groups,
    Error,
};

/// The longest time that a page counts in nanoseconds: what a double holds exactly.
const SPAN_MOST: u64 = 1 << 53;

/// What faults have in common that are told apart by colours and filters, but for the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    /// Index of [`Scene::panels`].
    pub panel: u32,
    /// Index of [`Scene::names`], or [`NONE`].
    pub mapping: u32,
    /// Index of [`Kind::ALL`].
    pub kind: u8,
    /// Index of [`fault_tracer_trace::Access::ALL`].
    pub access: u8,
    /// Index of [`fault_tracer_trace::Fate::ALL`].
    pub fate: u8,
    /// The binary logarithm of the bytes of the page that was mapped; 0: not known.
    pub page_bits: u8,
}

/// A trace laid out. In the columns, a fault has the same index; they are in the order of time.
pub struct Scene {
    pub(crate) metadata: Metadata,
    /// Time 0 of the picture, in nanoseconds of the trace's clock.
    pub(crate) start_ns: u64,
    /// The last time, from 0.
    pub(crate) span: u64,
    /// Nanoseconds of a step of [`Scene::time`]: 1, but for recordings of months.
    pub(crate) step_ns: u64,
    pub(crate) time: Vec<u64>,
    pub(crate) class: Vec<u32>,
    pub(crate) thread: Vec<u32>,
    pub(crate) y: Vec<u32>,
    pub(crate) low: Vec<u16>,
    pub(crate) place: Vec<u32>,
    pub(crate) code: Vec<u32>,
    pub(crate) duration_ns: Vec<u64>,
    pub(crate) attempts: FxHashMap<u32, u32>,
    pub(crate) classes: Vec<Class>,
    pub(crate) panels: Vec<Panel>,
    pub(crate) owners: Vec<String>,
    pub(crate) bases: Vec<u64>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) codes: Vec<CodeKey>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) names: Vec<Name>,
    pub(crate) events: Vec<Event>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) left_out: u64,
    pub(crate) trends: Vec<Trend>,
}

/// What is said of a part of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trend {
    /// What it is, in a line.
    pub text: String,
    /// What that rests on, and what may help.
    pub detail: String,
    /// When, in nanoseconds since the first fault; `None` is all the time.
    pub span_ns: Option<(u64, u64)>,
    /// The mapping with most of its faults, where they are of mappings.
    pub mapping: Option<Name>,
}

impl Scene {
    /// Reads the rows of a trace, to the first error at most, and lays them out. What came before the error is
    /// drawn; the error is given back beside the scene.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`], [`Error::TooMany`], [`Error::TooWide`]; with the error of the rows, if there was one.
    pub fn of<R: Borrow<Row>, E>(
        metadata: Metadata,
        rows: impl Iterator<Item = Result<R, E>>,
        symbols: &mut dyn Symbols,
        processes: Processes,
    ) -> Result<(Self, Option<E>), (Error, Option<E>)> {
        let mut builder = Builder::new(metadata, symbols);
        let mut ended = None;
        for row in rows {
            match row {
                Ok(row) => builder.add(row.borrow()).map_err(|error| (error, None))?,
                Err(error) => {
                    ended = Some(error);
                    break;
                }
            }
        }
        match Self::new(builder.finish(processes)) {
            Ok(scene) => Ok((scene, ended)),
            Err(error) => Err((error, ended)),
        }
    }

    /// Has the picture say this, too: in the page as a list that leads to each place, in a still picture as its caption.
    pub fn with_trends(self, trends: Vec<Trend>) -> Self {
        Self { trends, ..self }
    }

    /// Lays columns out.
    pub(crate) fn new(input: Input) -> Result<Self, Error> {
        if input.is_empty() {
            return Err(Error::Empty);
        }
        let groups = groups(&input);
        let layout = layout(&input, &groups)?;
        let Input {
            metadata,
            mut time_ns,
            address,
            mut region,
            thread,
            code,
            what,
            duration_ns,
            attempts,
            regions,
            owners,
            threads,
            codes,
            frames,
            names,
            events,
            missing,
            left_out,
            bounds_ns,
        } = input;
        let page_size = metadata.page_size;
        // CAST: 16 bits at most.
        let low = address
            .iter()
            .map(|address| (address - page_size.start_of(*address)) as u16)
            .collect();
        drop(address);

        let firsts = [
            time_ns.first().copied(),
            bounds_ns.map(|bounds| bounds.0),
            missing.first().map(|missing| missing.time_ns),
        ];
        let start_ns = firsts.into_iter().flatten().min().unwrap_or(0);
        let ends = bounds_ns.into_iter().map(|bounds| bounds.1);
        let ends = ends.chain(missing.iter().map(|missing| missing.end_ns));
        let end_ns = ends
            .chain(time_ns.last().copied())
            .max()
            .unwrap_or(start_ns);
        let mut step_ns = 1;
        while (end_ns - start_ns) / step_ns > SPAN_MOST {
            step_ns *= 10;
        }
        for time in &mut time_ns {
            *time = (*time - start_ns) / step_ns;
        }

        let classes = classes(&mut region, &what, &regions, &layout.panel_of);
        Ok(Self {
            metadata,
            start_ns,
            span: (end_ns - start_ns) / step_ns,
            step_ns,
            time: time_ns,
            class: region,
            thread,
            y: layout.y,
            low,
            place: layout.place,
            code,
            duration_ns,
            attempts,
            classes,
            panels: layout.panels,
            owners,
            bases: layout.bases,
            threads,
            codes,
            frames,
            names,
            events,
            missing,
            left_out,
            trends: Vec::new(),
        })
    }

    /// How long the picture's time is, in nanoseconds.
    pub fn span_ns(&self) -> u64 {
        self.span * self.step_ns
    }

    /// Shows a time of the trace's clock that holds all of its own.
    pub fn between(mut self, from_ns: u64, to_ns: u64) -> Self {
        let from_ns = from_ns.min(self.start_ns);
        let later = (self.start_ns - from_ns) / self.step_ns;
        for time in &mut self.time {
            *time += later;
        }
        let span = to_ns.saturating_sub(from_ns) / self.step_ns;
        self.span = span.max(self.span + later);
        self.start_ns = from_ns;
        self
    }

    /// Where the picture has each fault, in the order of time; those of one time are in the order of their rows.
    pub fn bands(&self) -> impl Bands + '_ {
        let labels = self.panels.iter();
        InBands {
            labels: labels.map(|panel| self.label(panel).into()).collect(),
            faults: self.class.iter().zip(&self.y).zip(&self.low),
            classes: &self.classes,
            page_size: self.metadata.page_size,
        }
    }

    /// The number of faults.
    pub fn faults(&self) -> usize {
        self.time.len()
    }

    /// Faults of each class.
    pub(crate) fn class_counts(&self) -> Vec<u64> {
        counts(&self.class, self.classes.len())
    }

    /// Faults of each thread.
    pub(crate) fn thread_counts(&self) -> Vec<u64> {
        counts(&self.thread, self.threads.len())
    }

    /// Faults of each code.
    pub(crate) fn code_counts(&self) -> Vec<u64> {
        counts(&self.code, self.codes.len())
    }

    /// Nanoseconds since 1970 of time 0.
    pub(crate) fn wall_start_ns(&self) -> i128 {
        i128::from(self.start_ns) + i128::from(self.metadata.wall_offset_ns)
    }

    /// What a panel is called.
    pub(crate) fn label(&self, panel: &Panel) -> String {
        let label = panel.group.label(&self.names);
        match self.owners.get(panel.owner as usize) {
            Some(owner) => format!("{owner}: {label}"),
            None => label,
        }
    }

    /// A name by its index, if it is one.
    pub(crate) fn name(&self, index: u32) -> Option<&str> {
        (index != NONE).then(|| &*self.names[index as usize])
    }
}

/// The faults of a scene that are still to come.
struct InBands<'a, F> {
    labels: Vec<Name>,
    faults: F,
    classes: &'a [Class],
    page_size: PageSize,
}

impl<'a, F> Bands for InBands<'a, F>
where
    F: Iterator<Item = ((&'a u32, &'a u32), &'a u16)>,
{
    fn next(&mut self) -> Option<Band> {
        let ((&class, &y), &low) = self.faults.next()?;
        let panel = self.classes[class as usize].panel;
        Some(Band {
            panel,
            offset: (u64::from(y) << self.page_size.shift()) + u64::from(low),
            label: Name::clone(&self.labels[panel as usize]),
        })
    }
}

fn counts(column: &[u32], count: usize) -> Vec<u64> {
    let mut counts = vec![0; count];
    for &index in column.iter().filter(|&&index| index != NONE) {
        counts[index as usize] += 1;
    }
    counts
}

/// Turns the column of regions into one of classes.
fn classes(
    region: &mut [u32],
    what: &[u16],
    regions: &[crate::input::Region],
    panel_of: &[u32],
) -> Vec<Class> {
    let mut pairs: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    let pair_of: Vec<u32> = regions
        .iter()
        .zip(panel_of)
        .map(|(region, &panel)| {
            // CAST: there are fewer pairs than regions.
            let next = pairs.len() as u32;
            *pairs.entry((panel, region.mapping)).or_insert(next)
        })
        .collect();
    let mut of_pair = vec![(0, 0); pairs.len()];
    for (pair, index) in pairs {
        of_pair[index as usize] = pair;
    }
    let mut classes = Vec::new();
    let mut index: FxHashMap<(u32, u16), u32> = FxHashMap::default();
    let mut last = None;
    for (region, &what) in region.iter_mut().zip(what) {
        let key = (pair_of[*region as usize], what);
        *region = match last {
            Some((same, class)) if same == key => class,
            _ => *index.entry(key).or_insert_with(|| {
                let (panel, mapping) = of_pair[key.0 as usize];
                let What {
                    kind,
                    access,
                    fate,
                    page_bits,
                } = What::of(key.1);
                classes.push(Class {
                    panel,
                    mapping,
                    kind,
                    access,
                    fate,
                    page_bits,
                });
                // CAST: there are fewer classes than faults.
                (classes.len() - 1) as u32
            }),
        };
        last = Some((key, *region));
    }
    debug_assert!(classes
        .iter()
        .all(|class| (class.kind as usize) < Kind::ALL.len()));
    classes
}
