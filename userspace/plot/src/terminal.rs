// SPDX-License-Identifier: GPL-2.0-only

//! The picture as text: braille dots, eight to a character.

use std::fmt::Write as _;

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

/// Draws a scene of so many characters a line and about so many lines.
pub fn terminal(scene: &Scene, width: usize, height: usize, colours: bool) -> String {
    let width = width.clamp(LABEL + 12, 1000);
    // CAST: clamped.
    let across = (width - LABEL - 1) as u32;
    // Panels with few faults give way where there are more than lines.
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

    let mut out = String::new();
    // Writing to a string succeeds.
    let command = shortened(&printable(&scene.metadata.command), width / 2);
    let facts = counted(scene.faults() as u64, "fault");
    let _ = writeln!(
        out,
        "{}",
        shortened(&format!("{command}  {facts}, {}", losses(scene).0), width)
    );
    for line in 0..used {
        let label =
            tops.iter()
                .find(|(top, _)| *top == line)
                .map_or_else(String::new, |&(_, panel)| {
                    let label = scene.panels[panel].group.label(&scene.names);
                    shortened(&printable(&label), LABEL - 1)
                });
        let _ = write!(out, "{label:<LABEL$}│");
        let mut colour = None;
        for cell in 0..across {
            let (dots, access) = cell_at(&raster, cell, line);
            if colours && dots != 0 && colour != Some(access) {
                out.push_str(COLOURS[access]);
                colour = Some(access);
            }
            // Braille patterns begin there, and have a bit for each dot.
            out.push(
                char::from_u32(0x2800 + dots)
                    .filter(|_| dots != 0)
                    .unwrap_or(' '),
            );
        }
        if colour.is_some() {
            out.push_str("\x1b[0m");
        }
        while out.ends_with(' ') {
            out.pop();
        }
        out.push('\n');
    }
    let span_ns = scene.span * scene.step_ns;
    let step_ns = decimal_step(span_ns.max(1), 100);
    let (start, end) = (time(0, step_ns), time(span_ns, step_ns));
    let rest = (across as usize).saturating_sub(start.chars().count() + end.chars().count());
    let _ = writeln!(out, "{:LABEL$}└{start}{:rest$}{end}", "", "");
    let key = |access: usize, name: &str| match colours {
        true => format!("{}⣿\x1b[0m {name}", COLOURS[access]),
        false => name.to_owned(),
    };
    if colours {
        let _ = writeln!(
            out,
            "{:LABEL$} {}  {}  {}",
            "",
            key(0, "read"),
            key(1, "write"),
            key(2, "execute")
        );
    }
    if !hidden.is_empty() {
        let faults = hidden.iter().map(|&panel| scene.panels[panel].faults).sum();
        let _ = writeln!(
            out,
            "{} of {} are not shown: make the terminal higher, or use -o FILE.html",
            counted(faults, "fault"),
            counted(hidden.len() as u64, "region")
        );
    }
    out
}

/// The dots of a character, and the access with the most faults in it.
fn cell_at(raster: &Raster, cell: u32, line: u32) -> (u32, usize) {
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
    let most = (0..3).max_by_key(|&access| sums[access]).unwrap_or(0);
    (dots, most)
}
