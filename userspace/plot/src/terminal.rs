// SPDX-License-Identifier: GPL-2.0-only

//! The picture as text: braille dots, eight to a character.

use fault_tracer_trace::Access;

use crate::{
    raster::{heights, weights, Raster},
    scene::Scene,
    svg::losses,
    text::{counted, decimal_step, printable, shortened, time},
};

/// Dots of a character: two to the right, four down.
const ACROSS: u32 = 2;
const DOWN: u32 = 4;
/// Room for the panels' names.
const LABEL: usize = 18;
/// Lines of a panel.
const LINES_LEAST: u32 = 1;
/// For read, write, execute.
const COLOURS: [&str; 3] = ["\x1b[34m", "\x1b[33m", "\x1b[32m"];
const PLAIN: &str = "\x1b[0m";

/// A text of one colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// On one line.
    pub text: String,
    /// Whose colour it has, if any.
    pub access: Option<Access>,
}

impl Piece {
    const fn plain(text: String) -> Self {
        Self { text, access: None }
    }
}

/// Draws a scene of so many characters a line and about so many lines.
pub fn terminal(scene: &Scene, width: usize, height: usize, colours: bool) -> String {
    let step_ns = decimal_step(scene.span_ns().max(1), 100);
    let ends = [time(0, step_ns), time(scene.span_ns(), step_ns)];
    let width = width.clamp(LABEL + 12, 1000);
    let command = shortened(&printable(&scene.metadata.command), width / 2);
    let facts = counted(scene.faults() as u64, "fault");
    let title = format!("{command}  {facts}, {}", losses(scene).0);
    let mut out = shortened(&title, width);
    out.push('\n');
    let mut lines = drawing(scene, width, height, ends);
    if colours {
        lines.push(key());
    }
    for line in &lines {
        let start = out.len();
        for piece in line {
            match piece.access.filter(|_| colours) {
                Some(access) => {
                    out.push_str(COLOURS[access as usize]);
                    out.push_str(&piece.text);
                    out.push_str(PLAIN);
                }
                None => out.push_str(&piece.text),
            }
        }
        let end = out[start..].trim_end_matches(' ').len();
        out.truncate(start + end);
        out.push('\n');
    }
    out
}

/// What the colours of a drawing mean.
pub fn key() -> Vec<Piece> {
    let mut line = vec![Piece::plain(format!("{:LABEL$}", ""))];
    for access in Access::ALL {
        line.push(Piece {
            text: " ⣿".into(),
            access: Some(access),
        });
        line.push(Piece::plain(format!(" {} ", access.name())));
    }
    line
}

/// The panels of a scene as lines, so many characters long and about so many, and below them the axis of time with
/// these texts at its ends. What has no room is counted in a last line.
pub fn drawing(scene: &Scene, width: usize, height: usize, ends: [String; 2]) -> Vec<Vec<Piece>> {
    let width = width.clamp(LABEL + 12, 1000);
    // CAST: clamped.
    let across = (width - LABEL - 1) as u32;
    // Panels with few faults give way where there are more than lines. CAST: clamped.
    let lines = (height.clamp(10, 1000) as u32).saturating_sub(4);
    let mut weights = weights(scene);
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&panel| std::cmp::Reverse(scene.panels[panel].faults));
    let hidden = order.split_off(order.len().min(lines as usize));
    let mut shown = order;
    shown.sort_unstable();
    for &panel in &hidden {
        weights[panel] = 0.0;
    }
    let of_shown: Vec<f64> = shown.iter().map(|&panel| weights[panel]).collect();
    let frames_shown = heights(&of_shown, lines, 0, LINES_LEAST);
    // In dots, on whole lines.
    let mut frames = vec![
        crate::raster::Frame {
            top: lines * DOWN,
            height: 1
        };
        weights.len()
    ];
    let mut tops = Vec::new();
    let mut top = 0;
    for (&panel, frame) in shown.iter().zip(&frames_shown) {
        tops.push((top, panel));
        frames[panel] = crate::raster::Frame {
            top: top * DOWN,
            height: frame.height * DOWN,
        };
        top += frame.height;
    }
    let used = top;
    for &panel in &hidden {
        frames[panel].top = used * DOWN;
    }
    // One line more takes what is hidden, and is not shown.
    let raster = Raster::new(scene, across * ACROSS, (used + 1) * DOWN, &frames);

    let mut drawn = Vec::new();
    for line in 0..used {
        let label = tops.iter().find(|(top, _)| *top == line);
        let label = label.map_or_else(String::new, |&(_, panel)| {
            let label = scene.label(&scene.panels[panel]);
            shortened(&printable(&label), LABEL - 1)
        });
        let mut pieces = vec![Piece::plain(format!("{label:<LABEL$}│"))];
        for cell in 0..across {
            let (dots, access) = cell_at(&raster, cell, line);
            // Braille patterns begin there, and have a bit for each dot.
            let (character, access) = match char::from_u32(0x2800 + dots).filter(|_| dots != 0) {
                Some(character) => (character, Some(access)),
                None => (' ', None),
            };
            match pieces.last_mut() {
                Some(last) if last.access == access => last.text.push(character),
                _ => pieces.push(Piece {
                    text: character.into(),
                    access,
                }),
            }
        }
        drawn.push(pieces);
    }
    let [start, end] = ends;
    let rest = (across as usize).saturating_sub(start.chars().count() + end.chars().count());
    drawn.push(vec![Piece::plain(format!(
        "{:LABEL$}└{start}{:rest$}{end}",
        "", ""
    ))]);
    if !hidden.is_empty() {
        let faults = hidden.iter().map(|&panel| scene.panels[panel].faults).sum();
        let text = format!(
            "{} of {} are not shown: make the terminal higher, or use plot -o FILE.html",
            counted(faults, "fault"),
            counted(hidden.len() as u64, "region")
        );
        drawn.push(vec![Piece::plain(text)]);
    }
    drawn
}

/// The dots of a character, and the access with the most faults in it.
fn cell_at(raster: &Raster, cell: u32, line: u32) -> (u32, Access) {
    // Bits of the dots, by rows.
    const BITS: [[u32; 2]; 4] = [[0, 3], [1, 4], [2, 5], [6, 7]];
    let mut dots = 0;
    let mut sums = [0u64; 3];
    for (y, bits) in BITS.iter().enumerate() {
        for (x, bit) in bits.iter().enumerate() {
            let counts = raster.at((cell * ACROSS) as usize + x, (line * DOWN) as usize + y);
            if counts != [0; 3] {
                dots |= 1 << bit;
            }
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += u64::from(count);
            }
        }
    }
    let most = Access::ALL
        .into_iter()
        .max_by_key(|&access| sums[access as usize]);
    (dots, most.unwrap_or(Access::Read))
}
