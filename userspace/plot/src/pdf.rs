// SPDX-License-Identifier: GPL-2.0-only

//! The static picture as a page of PDF: the SVG, its text still text.

use svg2pdf::{ConversionOptions, PageOptions};

use crate::{scene::Scene, tree::tree, Error, Size};

/// Draws a scene as PDF, with the fonts of this machine in it. A pixel of `size` is a 96th of an inch.
///
/// # Errors
///
/// [`Error::NoFont`], [`Error::Draw`].
pub fn pdf(scene: &Scene, size: Size) -> Result<Vec<u8>, Error> {
    let tree = tree(scene, size)?;
    let page = PageOptions { dpi: 96.0 };
    svg2pdf::to_pdf(&tree, ConversionOptions::default(), page)
        .map_err(|error| Error::Draw(error.to_string().into()))
}
