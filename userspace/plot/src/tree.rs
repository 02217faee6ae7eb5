// SPDX-License-Identifier: GPL-2.0-only

//! The static picture for those that draw it themselves: the SVG as a tree, with the fonts of this machine.

use resvg::usvg::{Options, Tree};

use crate::{scene::Scene, svg::svg, Error, Size};

/// Draws a scene as SVG, and chooses a font for its text.
///
/// # Errors
///
/// [`Error::NoFont`], [`Error::Draw`].
pub fn tree(scene: &Scene, size: Size) -> Result<Tree, Error> {
    let text = svg(scene, size)?;
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let sans = crate::svg::FONTS
        .split(", ")
        .find(|name| {
            fonts
                .faces()
                .any(|face| face.families.iter().any(|(family, _)| family == name))
        })
        .map(str::to_owned)
        .or_else(|| {
            let face = fonts.faces().next()?;
            Some(face.families.first()?.0.clone())
        })
        .ok_or(Error::NoFont)?;
    fonts.set_sans_serif_family(&sans);
    options.font_family = sans;
    Tree::from_str(&text, &options).map_err(|error| Error::Draw(error.into()))
}
