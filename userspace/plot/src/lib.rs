// SPDX-License-Identifier: GPL-2.0-only

//! Page faults as pictures: time to the right, addresses upwards, a panel for each region.
//!
//! Pure functions: rows come in, bytes go out. [`Scene::of`] reads a trace in one pass and lays it out; a scene
//! becomes an interactive page ([`page()`]), a static picture ([`svg()`], [`png()`], [`pdf()`]) or a text for a terminal
//! ([`terminal()`]). All of them draw the same points in the same panels:
//!
//! rows → `input` (columns) → `spaces`, `regions`, `layout` (panels) → `pyramid` (levels of detail) →
//! `encode` → `page`(mod@page); or → `raster` → `svg`(mod@svg) → `tree` → `png`(mod@png), `pdf`(mod@pdf).

mod encode;
mod input;
mod layout;
mod page;
mod palette;
mod pdf;
mod png;
mod pyramid;
mod raster;
mod regions;
#[cfg(test)]
mod sample;
mod scene;
mod spaces;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod tree;

pub use input::Processes;
pub use page::{page, PageOptions, PageReport};
pub use pdf::pdf;
pub use png::png;
pub use scene::{Scene, Trend};
pub use svg::{svg, Size};
pub use terminal::{drawing, key, terminal, Piece};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The trace has no fault to draw.
    #[error("the trace has no faults to draw: check that the program ran and faulted while it was traced")]
    Empty,
    /// More faults than indices.
    #[error("the trace has more than 4,294,967,294 faults: record for a shorter time, or fewer processes")]
    TooMany,
    /// More pages than coordinates.
    #[error("the faults of one region lie on more than 2^32 pages: record fewer processes")]
    TooWide,
    /// The page does not fit.
    #[error("the page takes {least} bytes without any single fault, and --max-size allows {most}: allow more")]
    TooBig {
        /// What the smallest page takes.
        least: u64,
        /// What is allowed.
        most: u64,
    },
    /// No font.
    #[error(
        "this machine has no font for the text of a PNG or PDF: install one (apt-get install fonts-dejavu-core), \
         or write an SVG or HTML"
    )]
    NoFont,
    /// The picture's own code is at fault.
    #[error("the picture cannot be drawn")]
    Draw(#[source] Box<dyn std::error::Error + Send + Sync>),
}
