// SPDX-License-Identifier: GPL-2.0-only

//! Faults → pixels: how many of which access are at each, as colour and opacity. The page's own drawing
//! (assets/draw.js) gives the same pixels, which a test in the browser compares.

use crate::{palette, scene::Scene};

/// Where a panel is in the picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// Of its upper edge.
    pub top: u32,
    /// At least 1.
    pub height: u32,
}

/// Counts of accesses by pixel.
pub struct Raster {
    width: usize,
    height: usize,
    /// Read, write, execute.
    counts: Vec<[u32; 3]>,
    /// The pixels with faults in the order of time, and the access of their first fault.
    touched: Vec<(u32, u8)>,
}

/// Heights of panels: each at least `least`, the rest by their weights.
pub fn heights(weights: &[f64], total: u32, gap: u32, least: u32) -> Vec<Frame> {
    // CAST: some tens.
    let count = weights.len() as u32;
    let room = f64::from(total.saturating_sub(gap * count.saturating_sub(1)));
    let least = f64::from(least).min((room / f64::from(count.max(1))).floor().max(1.0));
    let sum: f64 = weights.iter().sum();
    let free = (room - least * f64::from(count)).max(0.0);
    let mut top = 0.0;
    weights
        .iter()
        .map(|weight| {
            let height = least + if sum > 0.0 { free * weight / sum } else { 0.0 };
            // CAST: pixels. The page rounds in the same way.
            let from = f64::round(top) as u32;
            let frame = Frame {
                top: from,
                height: (f64::round(top + height) as u32)
                    .saturating_sub(from)
                    .max(1),
            };
            top += height + f64::from(gap);
            frame
        })
        .collect()
}

/// How much of the picture panels get: so that a heap of 1 GiB is seen to be big, and a stack of three pages is seen.
pub fn weights(scene: &Scene) -> Vec<f64> {
    let share = |panel: &crate::layout::Panel| {
        (panel.pages as f64).sqrt().min(2000.0) + 8.0 * (panel.faults as f64).sqrt()
    };
    scene.panels.iter().map(share).collect()
}

impl Raster {
    /// Counts all faults.
    pub fn new(scene: &Scene, width: u32, height: u32, frames: &[Frame]) -> Self {
        let (width, height) = (width as usize, height as usize);
        let mut counts = vec![[0u32; 3]; width * height];
        let mut touched = Vec::new();
        let across = width as f64 / (scene.span as f64 + 1.0);
        let scales: Vec<(f64, f64)> = frames
            .iter()
            .zip(&scene.panels)
            .map(|(frame, panel)| {
                let scale = f64::from(frame.height) / panel.pages.max(1) as f64;
                (scale, f64::from(frame.top + frame.height))
            })
            .collect();
        for ((&time, &class), &y) in scene.time.iter().zip(&scene.class).zip(&scene.y) {
            let class = &scene.classes[class as usize];
            let (scale, bottom) = scales[class.panel as usize];
            // CAST: within the picture.
            let x = ((time as f64 * across) as usize).min(width - 1);
            let down = bottom - (f64::from(y) + 0.5) * scale;
            let row = (down as usize).min(height - 1);
            let pixel = &mut counts[row * width + x];
            if *pixel == [0; 3] {
                // CAST: pictures have at most 16,000 by 16,000 pixels.
                touched.push(((row * width + x) as u32, class.access));
            }
            let count = &mut pixel[class.access as usize];
            *count = count.saturating_add(1);
        }
        Self {
            width,
            height,
            counts,
            touched,
        }
    }

    /// Faults in the picture.
    #[cfg(test)]
    pub fn total(&self) -> u64 {
        self.counts
            .iter()
            .flatten()
            .map(|&count| u64::from(count))
            .sum()
    }

    /// The counts of a pixel.
    pub fn at(&self, x: usize, y: usize) -> [u32; 3] {
        self.counts[y * self.width + x]
    }

    /// Indices of [`colours`] of each pixel, by rows. Where few pixels are touched, faults get bigger; of those that
    /// lie over each other, the later one is seen.
    pub fn pixels(&self, frames: &[Frame]) -> Vec<u8> {
        let totals = self.counts.iter().map(|counts| counts.iter().sum::<u32>());
        let scale = f64::from(SHADES - 1) / f64::from(totals.max().unwrap_or(0).max(2)).log2();
        let dot = match self.touched.len() {
            0..=1_500 => 5,
            1_501..=25_000 => 3,
            25_001..=120_000 => 2,
            _ => 1,
        };
        let rows: Vec<usize> = self.rows(frames);
        let mut pixels = vec![0; self.width * self.height];
        for &(at, first) in &self.touched {
            let (x, y) = (at as usize % self.width, at as usize / self.width);
            let counts = self.counts[at as usize];
            let total: u32 = counts.iter().sum();
            // CAST: below SHADES.
            let shade = (f64::from(total).log2() * scale) as u8;
            let [one, two] =
                winners(counts, first.into()).map(|access| 1 + access as u8 * SHADES + shade);
            let frame = &frames[rows[y]];
            let (top, end) = (frame.top as usize, (frame.top + frame.height) as usize);
            // The pixel is in the middle of its dot.
            let (before, behind) = (dot / 2, dot - dot / 2);
            let from = y.saturating_sub(before).max(top);
            let to = (y + behind).min(end).min(self.height);
            let left = x.saturating_sub(before);
            let right = (x + behind).min(self.width);
            for row in from..to {
                for column in left..right {
                    let odd = (column + row) % 2 == 1;
                    pixels[row * self.width + column] = if odd { two } else { one };
                }
            }
        }
        pixels
    }

    /// The frame that each row of pixels is in.
    fn rows(&self, frames: &[Frame]) -> Vec<usize> {
        let mut rows = vec![0; self.height];
        for (index, frame) in frames.iter().enumerate() {
            let end = ((frame.top + frame.height) as usize).min(self.height);
            rows[(frame.top as usize).min(end)..end].fill(index);
        }
        rows
    }
}

/// Shades of a colour, from few faults to many.
const SHADES: u8 = 32;

/// The colours of [`Raster::pixels`], red, green and blue, and their opacities: nothing, then of each access its shades.
pub fn colours() -> (Vec<u8>, Vec<u8>) {
    let (mut colours, mut opacities) = (vec![0; 3], vec![0]);
    for access in palette::ACCESSES {
        for shade in 0..SHADES {
            colours.extend(palette::rgb(access.0));
            let opacity = 0.55 + 0.45 * f64::from(shade) / f64::from(SHADES - 1);
            // CAST: at most 255.
            opacities.push((opacity * 255.0).round() as u8);
        }
    }
    (colours, opacities)
}

/// The access with the most faults, that of the pixel's first fault if it is one of several; and the next one, where
/// it has at least half as many, for every second pixel. A mixture would be a colour that no legend has.
fn winners(counts: [u32; 3], first: usize) -> [usize; 2] {
    let (mut best, mut second, mut next) = (first, first, 0);
    for (access, &count) in counts.iter().enumerate() {
        if count == 0 || access == best {
            continue;
        }
        if count > counts[best] {
            (second, next) = (best, counts[best]);
            best = access;
        } else if count > next {
            (second, next) = (access, count);
        }
    }
    let is_seen = next > 0 && u64::from(next) * 2 >= u64::from(counts[best]);
    [best, if is_seen { second } else { best }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_share_the_height() {
        let frames = heights(&[1.0, 3.0, 0.0], 420, 10, 40);
        assert_eq!(
            frames[0],
            Frame {
                top: 0,
                height: 110
            }
        );
        assert_eq!(frames[1].height, 250);
        assert_eq!(frames[2].height, 40);
        assert_eq!(frames[2].top + frames[2].height, 420);
        let crowded = heights(&[1.0; 50], 100, 0, 40);
        assert!(crowded.iter().all(|frame| frame.height == 2));
    }

    #[test]
    fn the_majority_wins_and_the_runner_up_is_seen() {
        assert_eq!(winners([5, 3, 0], 0), [0, 1]);
        assert_eq!(winners([5, 3, 0], 1), [0, 1]);
        assert_eq!(winners([5, 2, 0], 1), [0, 0]);
        assert_eq!(winners([0, 0, 1], 2), [2, 2]);
        assert_eq!(winners([2, 2, 0], 1), [1, 0]);
        assert_eq!(winners([1, 3, 4], 0), [2, 1]);
    }
}
