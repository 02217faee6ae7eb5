// SPDX-License-Identifier: GPL-2.0-only

//! Faults → pixels: how many of which access are at each, as colour and opacity.

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
}

/// Heights of panels: each at least `least`, the rest by their weights.
pub fn heights(weights: &[f64], total: u32, gap: u32, least: u32) -> Vec<Frame> {
    // CAST: some tens.
    let count = weights.len() as u32;
    let room = f64::from(total.saturating_sub(gap * count.saturating_sub(1)));
    let least = f64::from(least).min(room / f64::from(count.max(1)));
    let sum: f64 = weights.iter().sum();
    let free = (room - least * f64::from(count)).max(0.0);
    let mut top = 0.0;
    weights
        .iter()
        .map(|weight| {
            let height = least + if sum > 0.0 { free * weight / sum } else { 0.0 };
            let frame = Frame {
                // CAST: pixels.
                top: top as u32,
                height: (height as u32).max(1),
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
            let count = &mut counts[row * width + x][class.access as usize];
            *count = count.saturating_add(1);
        }
        Self {
            width,
            height,
            counts,
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

    /// Red, green, blue and opacity of each pixel, by rows. Where few pixels are touched, faults get bigger.
    pub fn pixels(&self, frames: &[Frame]) -> Vec<u8> {
        let colours = palette::ACCESSES.map(|colour| palette::rgb(colour.0));
        let most = self
            .counts
            .iter()
            .map(|counts| counts.iter().sum::<u32>())
            .max();
        let most = f64::from(most.unwrap_or(1).max(2)).ln();
        let touched = self
            .counts
            .iter()
            .filter(|counts| **counts != [0; 3])
            .count();
        let dot = match touched {
            0..=2_000 => 4,
            2_001..=30_000 => 3,
            30_001..=150_000 => 2,
            _ => 1,
        };
        let mut pixels = vec![0; self.width * self.height * 4];
        for frame in frames {
            let rows = frame.top as usize..((frame.top + frame.height) as usize).min(self.height);
            for y in rows.clone() {
                for x in 0..self.width {
                    let counts = self.at(x, y);
                    let total: u32 = counts.iter().sum();
                    if total == 0 {
                        continue;
                    }
                    let opacity = 0.6 + 0.4 * f64::from(total).ln() / most;
                    for down in 0..dot {
                        for right in 0..dot {
                            let (x, y) = (x + right, y + down);
                            if x < self.width && rows.contains(&y) {
                                let colour = colours[winner(counts, (x + y) % 2 == 1)];
                                let at = (y * self.width + x) * 4;
                                // CAST: at most 255.
                                let opacity = (opacity * 255.0) as u8;
                                if pixels[at + 3] <= opacity {
                                    pixels[at..at + 3].copy_from_slice(&colour);
                                    pixels[at + 3] = opacity;
                                }
                            }
                        }
                    }
                }
            }
        }
        pixels
    }
}

/// The access with the most faults; on odd pixels the next one, where it has at least half as many. A mixture would
/// be a colour that no legend has.
fn winner(counts: [u32; 3], odd: bool) -> usize {
    let mut order = [0, 1, 2];
    order.sort_by_key(|&access| std::cmp::Reverse(counts[access]));
    let second = order[1];
    if odd && counts[second] > 0 && counts[second] >= counts[order[0]] / 2 {
        second
    } else {
        order[0]
    }
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
        assert_eq!(winner([5, 2, 0], true), 1);
        assert_eq!(winner([5, 2, 0], false), 0);
        assert_eq!(winner([5, 1, 0], true), 0);
        assert_eq!(winner([0, 0, 1], true), 2);
    }
}
