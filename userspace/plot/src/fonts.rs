// SPDX-License-Identifier: GPL-2.0-only

//! The fonts of this machine, for pictures that bring theirs along.

use resvg::usvg::Options;

use crate::Error;

/// Loads them, and chooses one for the text.
///
/// # Errors
///
/// [`Error::NoFont`].
pub fn fonts(options: &mut Options<'_>) -> Result<(), Error> {
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
    Ok(())
}
