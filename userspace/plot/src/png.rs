// SPDX-License-Identifier: GPL-2.0-only

//! The static picture as pixels: the SVG, drawn.

use resvg::tiny_skia::{Pixmap, Transform};
use rustc_hash::FxHashMap;

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
    encode(&pixels).map_err(|error| Error::Draw(error.into()))
}

/// As small as PNG can be: pictures have few colours, and nothing shines through them.
fn encode(pixels: &Pixmap) -> Result<Vec<u8>, ::png::EncodingError> {
    let colours = pixels.pixels().iter().map(|pixel| {
        let colour = pixel.demultiply();
        [colour.red(), colour.green(), colour.blue()]
    });
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, pixels.width(), pixels.height());
    encoder.set_depth(::png::BitDepth::Eight);
    encoder.set_compression(::png::Compression::High);
    let data = match indexed(colours.clone()) {
        Some((indices, palette)) => {
            encoder.set_color(::png::ColorType::Indexed);
            encoder.set_palette(palette);
            // Filters are for colours that change by little.
            encoder.set_filter(::png::Filter::NoFilter);
            indices
        }
        None => {
            encoder.set_color(::png::ColorType::Rgb);
            colours.flatten().collect()
        }
    };
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&data)?;
    writer.finish()?;
    Ok(bytes)
}

/// Colours as numbers in a list of them; `None` where they are more than 256.
fn indexed(colours: impl Iterator<Item = [u8; 3]>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut numbers = FxHashMap::<[u8; 3], u8>::default();
    let mut palette = Vec::new();
    let mut indices = Vec::new();
    for colour in colours {
        let index = match numbers.get(&colour) {
            Some(&index) => index,
            None => {
                let index = u8::try_from(numbers.len()).ok()?;
                numbers.insert(colour, index);
                palette.extend(colour);
                index
            }
        };
        indices.push(index);
    }
    Some((indices, palette))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> (::png::ColorType, Vec<u8>) {
        let decoder = ::png::Decoder::new(std::io::Cursor::new(bytes));
        let reader = decoder.read_info().unwrap();
        let kept = reader.info().color_type;
        let mut decoder = ::png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(::png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut data = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut data).unwrap();
        (kept, data)
    }

    #[test]
    fn few_colours_are_a_list_and_many_are_themselves() {
        for (side, kept) in [
            (16u32, ::png::ColorType::Indexed),
            (17, ::png::ColorType::Rgb),
        ] {
            let mut pixels = Pixmap::new(side, side).unwrap();
            let mut expected = Vec::new();
            for (number, pixel) in pixels.data_mut().chunks_exact_mut(4).enumerate() {
                let colour = [(number % 251) as u8, (number / 251) as u8, 7];
                pixel[..3].copy_from_slice(&colour);
                pixel[3] = 255;
                expected.extend(colour);
            }
            assert_eq!(decoded(&encode(&pixels).unwrap()), (kept, expected));
        }
    }
}
