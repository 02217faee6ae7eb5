// SPDX-License-Identifier: GPL-2.0-only

//! The static picture as pixels: the SVG, drawn.

use resvg::tiny_skia::{Pixmap, Transform};

use crate::{scene::Scene, tree::tree, Error, Size};

/// Draws a scene as PNG, with the fonts of this machine.
///
/// # Errors
///
/// [`Error::NoFont`], [`Error::Draw`].
pub fn png(scene: &Scene, size: Size) -> Result<Vec<u8>, Error> {
    let tree = tree(scene, size)?;
    let (width, height) = (tree.size().width() as u32, tree.size().height() as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| Error::Draw("no pixels".into()))?;
    resvg::render(&tree, Transform::identity(), &mut pixels.as_mut());
    pixels
        .encode_png()
        .map_err(|error| Error::Draw(error.into()))
}
