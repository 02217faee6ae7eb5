// SPDX-License-Identifier: GPL-2.0-only

//! Levels of detail: faults of one class that fall in one cell of time and address become one mark with a weight.
//!
//! A level holds every fault once, so that filters and counts by class are exact at each. One level tells threads
//! apart too, for filters, counts and colours by them; in the others, faults of all threads merge. Cells are powers of
//! two in time steps and in pages: those of a coarser level are unions of a finer one's.

use rustc_hash::FxHashMap;

use crate::{
    input::NO_DURATION,
    raster::{heights, weights},
    scene::Scene,
};

/// Cells of the coarsest level: time to the right, and upwards in all panels together, shared out as the still
/// picture's height is. A picture has about as many pixels.
const TOP_COLUMNS: u64 = 2048;
const TOP_ROWS: u32 = 900;
/// So many marks are drawn in a frame with ease.
const TOP_MARKS_MOST: usize = 100_000;
/// A finer level has to be smaller than the faults themselves by this factor.
const WORTH: usize = 4;
/// A level is finer than the one above it by so many bits, each way.
const STEP: u32 = 2;
/// How often the coarsest level is made coarser. Not without end: what is not alike stays apart.
const COARSER_MOST: u32 = 6;

/// Faults of one class, and of one thread where the level tells, in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The cell's number from time 0 on.
    pub column: u64,
    /// The cell's number from the panel's bottom on.
    pub row: u32,
    /// Index of the classes.
    pub class: u32,
    /// Index of the threads; 0 in a level that does not tell.
    pub thread: u32,
    /// How many faults.
    pub count: u32,
    /// The sum of the durations known, in nanoseconds.
    pub duration_ns: u64,
    /// How many are known.
    pub durations: u32,
}

/// A level of detail.
pub struct Level {
    /// A column has 2^`column_bits` time steps.
    pub column_bits: u32,
    /// A row has 2^`row_bits` pages, of each panel.
    pub row_bits: Vec<u32>,
    /// Whether threads are told apart.
    pub threads: bool,
    /// By column, then class, thread and row.
    pub marks: Vec<Mark>,
}

/// The levels of a scene: the coarsest, then the one with threads, then finer and finer ones.
pub fn pyramid(scene: &Scene) -> Vec<Level> {
    let most = scene.faults() / WORTH;
    let mut grid = Grid::top(scene, false);
    let top = few(scene, &mut grid, COARSER_MOST);
    let mut threaded = Grid::top(scene, true);
    let threaded = few(scene, &mut threaded, 2 * COARSER_MOST);
    let mut levels = vec![top, threaded];
    while grid.refine() {
        match merge(&grid, faults(scene, &grid), most) {
            Some(level) => levels.push(level),
            None => break,
        }
    }
    levels
}

/// The level of a grid, or of a coarser one with few enough marks.
fn few(scene: &Scene, grid: &mut Grid, coarser_most: u32) -> Level {
    let mut level = merge_all(grid, faults(scene, grid));
    while level.marks.len() > TOP_MARKS_MOST && grid.coarsen(coarser_most) {
        let finer = level;
        let marks = finer.marks.iter().map(|mark| {
            let panel = scene.classes[mark.class as usize].panel as usize;
            Mark {
                column: mark.column >> (grid.column_bits - finer.column_bits),
                row: mark.row >> (grid.row_bits[panel] - finer.row_bits[panel]),
                ..*mark
            }
        });
        level = merge_all(grid, marks);
    }
    level
}

#[derive(Clone)]
struct Grid {
    column_bits: u32,
    row_bits: Vec<u32>,
    threads: bool,
    coarser: u32,
}

impl Grid {
    fn top(scene: &Scene, threads: bool) -> Self {
        let bits = |extent: u64, cells: u64| {
            let mut bits = 0;
            while extent >> bits >= cells {
                bits += 1;
            }
            bits
        };
        Self {
            column_bits: bits(scene.span, TOP_COLUMNS),
            row_bits: scene
                .panels
                .iter()
                .zip(heights(&weights(scene), TOP_ROWS, 3, 17))
                .map(|(panel, frame)| bits(panel.pages.saturating_sub(1), u64::from(frame.height)))
                .collect(),
            threads,
            coarser: 0,
        }
    }

    /// Twice as coarse, in turn by columns and rows; false where it was done often enough.
    fn coarsen(&mut self, most: u32) -> bool {
        if self.coarser == most {
            return false;
        }
        if self.coarser % 2 == 0 {
            self.column_bits += 1;
        } else {
            // Where a row is a page, there are few.
            for bits in self.row_bits.iter_mut().filter(|bits| **bits != 0) {
                *bits += 1;
            }
        }
        self.coarser += 1;
        true
    }

    fn refine(&mut self) -> bool {
        if self.column_bits == 0 {
            return false;
        }
        self.column_bits = self.column_bits.saturating_sub(STEP);
        for bits in &mut self.row_bits {
            *bits = bits.saturating_sub(STEP);
        }
        true
    }
}

/// Each fault as a mark.
fn faults<'a>(scene: &'a Scene, grid: &'a Grid) -> impl Iterator<Item = Mark> + 'a {
    (0..scene.faults()).map(|index| {
        let class = scene.class[index];
        let panel = scene.classes[class as usize].panel as usize;
        let duration_ns = scene
            .duration_ns
            .get(index)
            .copied()
            .filter(|&duration| duration != NO_DURATION);
        Mark {
            column: scene.time[index] >> grid.column_bits,
            row: scene.y[index]
                .checked_shr(grid.row_bits[panel])
                .unwrap_or(0),
            class,
            thread: if grid.threads { scene.thread[index] } else { 0 },
            count: 1,
            duration_ns: duration_ns.unwrap_or(0),
            durations: u32::from(duration_ns.is_some()),
        }
    })
}

fn merge_all(grid: &Grid, marks: impl Iterator<Item = Mark>) -> Level {
    merge(grid, marks, usize::MAX).expect("without a limit, none is passed")
}

/// Merges marks that come by column; none if there are more than so many.
fn merge(grid: &Grid, marks: impl Iterator<Item = Mark>, most: usize) -> Option<Level> {
    let mut merged: Vec<Mark> = Vec::new();
    let mut index: FxHashMap<(u32, u32, u32), usize> = FxHashMap::default();
    let mut from = 0;
    for mark in marks {
        if merged[from..]
            .first()
            .is_some_and(|first| first.column != mark.column)
        {
            sort_column(&mut merged[from..]);
            from = merged.len();
            index.clear();
            if from > most {
                return None;
            }
        }
        match index.entry((mark.row, mark.class, mark.thread)) {
            std::collections::hash_map::Entry::Occupied(known) => {
                let into = &mut merged[*known.get()];
                into.count += mark.count;
                into.duration_ns = into.duration_ns.saturating_add(mark.duration_ns);
                into.durations += mark.durations;
            }
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(merged.len());
                merged.push(mark);
            }
        }
    }
    sort_column(&mut merged[from..]);
    (merged.len() <= most).then(|| Level {
        column_bits: grid.column_bits,
        row_bits: grid.row_bits.clone(),
        threads: grid.threads,
        marks: merged,
    })
}

fn sort_column(marks: &mut [Mark]) {
    marks.sort_unstable_by_key(|mark| (mark.class, mark.thread, mark.row));
}
