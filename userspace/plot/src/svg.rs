// SPDX-License-Identifier: GPL-2.0-only

//! The static picture: axes and text as vectors, the faults as an image in it.

use std::fmt::Write as _;

use base64::{engine::general_purpose::STANDARD, Engine as _};
use fault_tracer_trace::Access;

use crate::{
    layout::Panel,
    palette,
    raster::{colours, heights, weights, Frame, Raster},
    regions::short_name,
    scene::Scene,
    text::{counted, decimal_step, grouped, printable, shortened, size, time, xml},
    Error,
};

/// Of the picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// From 400.
    pub width: u32,
    /// From 300.
    pub height: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            width: 1600,
            height: 1000,
        }
    }
}

/// Margins, in pixels.
const LEFT: u32 = 236;
const RIGHT: u32 = 20;
const TOP: u32 = 74;
const BOTTOM: u32 = 92;
/// Of the strip of rates at the bottom.
const STRIP: u32 = 40;
const GAP: u32 = 3;
/// Of a line of the caption.
const LINE: u32 = 17;
const LEAST: u32 = 17;
/// Borders of segments are not drawn where they would become a grey area.
const LINES_APART: f64 = 6.0;

const INK: &str = "#1f2328";
const MUTED: &str = "#5b636d";
const FAINT: &str = "#d5d9e0";
const BAD: &str = "#c8102e";

/// The fonts that are asked for, in this order.
pub const FONTS: &str = "DejaVu Sans, Liberation Sans, Noto Sans, Arial, Helvetica, sans-serif";

/// Draws a scene as SVG.
///
/// # Errors
///
/// [`Error::Draw`].
pub fn svg(scene: &Scene, size: Size) -> Result<String, Error> {
    let Size { width, height } = size;
    let (width, height) = (width.max(400), height.max(300));
    let lines = caption(scene, width, (height / 4 / LINE) as usize);
    // CAST: a part of the picture's lines.
    let caption_height = lines.len() as u32 * LINE;
    let (across, down) = (width - LEFT - RIGHT, height - TOP - BOTTOM - caption_height);
    let frames = heights(&weights(scene), down, GAP, LEAST);
    let raster = Raster::new(scene, across, down, &frames);
    let mut out = String::new();
    // Writing to a string succeeds.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"{FONTS}\" font-size=\"12\">\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"
    );
    header(&mut out, scene, width);
    for (panel, frame) in scene.panels.iter().zip(&frames) {
        panel_frame(&mut out, scene, panel, *frame, across);
    }
    let image = png_of(across, down, &raster.pixels(&frames))?;
    let _ = write!(
        out,
        "<image x=\"{LEFT}\" y=\"{TOP}\" width=\"{across}\" height=\"{down}\" \
         href=\"data:image/png;base64,{}\"/>",
        STANDARD.encode(image)
    );
    time_axis(&mut out, scene, across, down);
    strip(&mut out, scene, &raster, (across, down));
    missing(&mut out, scene, across, down);
    for (index, line) in lines.iter().enumerate() {
        let _ = write!(
            out,
            "<text class=\"caption\" x=\"20\" y=\"{}\" fill=\"{INK}\">{}</text>",
            // CAST: a part of the picture's lines.
            height - caption_height + LINE * index as u32 + 4,
            xml(line)
        );
    }
    out.push_str("</svg>\n");
    Ok(out)
}

/// The trends as lines that fit, as many as may be; the last one says how many do not.
fn caption(scene: &Scene, width: u32, most: usize) -> Vec<String> {
    let room = (width.saturating_sub(40) / 7).max(12) as usize;
    let all = scene.trends.len();
    let shown = if all > most { most - 1 } else { all };
    let mut lines: Vec<_> = scene.trends[..shown]
        .iter()
        .map(|trend| shortened(&printable(&trend.text), room))
        .collect();
    if shown < all {
        lines.push(format!("and {} more trends", all - shown));
    }
    lines
}

/// A PNG of pixels of the raster's colours.
fn png_of(width: u32, height: u32, pixels: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(::png::ColorType::Indexed);
    let (colours, opacities) = colours();
    encoder.set_palette(colours);
    encoder.set_trns(opacities);
    encoder.set_depth(::png::BitDepth::Eight);
    encoder.set_compression(::png::Compression::High);
    // Indices are no numbers: neighbours tell nothing by their differences.
    encoder.set_filter(::png::Filter::NoFilter);
    let written = encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(pixels));
    written.map_err(|error| Error::Draw(error.into()))?;
    Ok(bytes)
}

fn header(out: &mut String, scene: &Scene, width: u32) {
    let command = match scene.metadata.command.as_str() {
        "" => "page faults",
        command => command,
    };
    // Some 11 pixels a character, and room for the legend at the right.
    let room = (width.saturating_sub(24 + 400) / 11).max(12) as usize;
    let _ = write!(
        out,
        "<text x=\"20\" y=\"30\" font-size=\"17\" font-weight=\"bold\" fill=\"{INK}\">{}</text>",
        xml(&shortened(&printable(command), room))
    );
    let step_ns = decimal_step((scene.span * scene.step_ns).max(1), 100);
    let processes: std::collections::HashSet<u32> =
        scene.threads.iter().map(|thread| thread.pid).collect();
    let mut facts = vec![
        counted(scene.faults() as u64, "fault"),
        time(scene.span * scene.step_ns, step_ns),
        match processes.len() {
            1 => "1 process".into(),
            count => format!("{} processes", grouped(count as u64)),
        },
    ];
    for fact in [&scene.metadata.host, &scene.metadata.kernel] {
        if !fact.is_empty() {
            facts.push(shortened(&printable(fact), 40));
        }
    }
    let room = (width.saturating_sub(40 + 260) / 7).max(12) as usize;
    let _ = write!(
        out,
        "<text x=\"20\" y=\"54\" fill=\"{MUTED}\">{}</text>",
        xml(&shortened(&facts.join("  ·  "), room))
    );
    let mut counts = [0u64; 3];
    for (class, count) in scene.classes.iter().zip(scene.class_counts()) {
        counts[class.access as usize] += count;
    }
    let mut x = width - RIGHT;
    for (index, access) in Access::ALL.into_iter().enumerate().rev() {
        let text = format!("{} {}", access.name(), grouped(counts[index]));
        // CAST: a short text.
        x -= 7 * text.len() as u32;
        let _ = write!(
            out,
            "<text x=\"{x}\" y=\"30\" fill=\"{INK}\">{text}</text>\
             <circle cx=\"{}\" cy=\"26\" r=\"5\" fill=\"{}\"/>",
            x - 11,
            palette::ACCESSES[index].0
        );
        x -= 32;
    }
    let (text, colour) = losses(scene);
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"54\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
        width - RIGHT,
        xml(&text)
    );
}

/// What the recording says of its losses.
pub fn losses(scene: &Scene) -> (String, &'static str) {
    match scene.metadata.account.map(|account| account.lost()) {
        Some(0) => ("no fault lost".into(), MUTED),
        Some(lost) => (format!("{} lost", counted(lost, "fault")), BAD),
        None => ("losses not known: the recording did not end".into(), MUTED),
    }
}

fn panel_frame(out: &mut String, scene: &Scene, panel: &Panel, frame: Frame, across: u32) {
    let top = TOP + frame.top;
    let _ = write!(
        out,
        "<rect class=\"panel\" x=\"{LEFT}\" y=\"{top}\" width=\"{across}\" height=\"{}\" fill=\"none\" \
         stroke=\"{FAINT}\"/>",
        frame.height
    );
    let label = scene.label(panel);
    let _ = write!(
        out,
        "<text x=\"20\" y=\"{}\" font-weight=\"bold\" fill=\"{INK}\">{}</text>",
        top + 13,
        xml(&shortened(
            &printable(&label),
            if frame.height < 32 { 16 } else { 26 }
        ))
    );
    if frame.height >= 32 {
        let _ = write!(
            out,
            "<text x=\"20\" y=\"{}\" font-size=\"11\" fill=\"{MUTED}\">{}</text>",
            top + 27,
            grouped(panel.faults)
        );
    }
    let scale = f64::from(frame.height) / panel.pages.max(1) as f64;
    let bottom = f64::from(top + frame.height);
    // From the top, so that the highest is always reported.
    let mut free = f64::from(top) - 14.0;
    let mut border = f64::from(top) - LINES_APART;
    for segment in panel.segments.iter().rev() {
        let at = bottom - segment.y as f64 * scale;
        if segment.y != 0 && at > f64::from(top) + 2.0 && at - border >= LINES_APART {
            border = at;
            let _ = write!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{FAINT}\"/>",
                LEFT + across
            );
        }
        let end = at - segment.pages as f64 * scale;
        let text = at.min(bottom - 2.0).max(end + 10.0);
        if text - free < 14.0 {
            continue;
        }
        free = text;
        let place = segment.page.wrapping_mul(scene.metadata.page_size.bytes());
        let label = match (panel.group.is_file(), panel.segments.len()) {
            (true, _) if multiple(panel) => {
                let name = scene.name(segment.mapping).map(short_name);
                // Beside the panel's own name, or below it.
                let most = if frame.height < 32 { 12 } else { 22 };
                shortened(&printable(&name.unwrap_or_default()), most)
            }
            (true, _) => format!("+{place:#x}"),
            (false, _) => format!("{place:#x}"),
        };
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{text:.1}\" text-anchor=\"end\" font-size=\"10\" fill=\"{MUTED}\">{}</text>",
            LEFT - 6,
            xml(&label)
        );
    }
    if panel.segments.is_empty() {
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"10\" fill=\"{MUTED}\">{}, aligned</text>",
            LEFT - 6,
            top + 12,
            size(panel.pages.saturating_mul(scene.metadata.page_size.bytes()))
        );
    }
}

/// Whether a panel has several files.
pub fn multiple(panel: &Panel) -> bool {
    panel
        .segments
        .windows(2)
        .any(|pair| pair[0].mapping != pair[1].mapping)
}

fn time_axis(out: &mut String, scene: &Scene, across: u32, down: u32) {
    let span_ns = (scene.span * scene.step_ns).max(1);
    let step_ns = decimal_step(span_ns, u64::from(across / 110).max(2));
    let scale = f64::from(across) / (scene.span * scene.step_ns + 1) as f64;
    let base = TOP + down;
    let mut at_ns = 0;
    while at_ns <= span_ns {
        let x = f64::from(LEFT) + at_ns as f64 * scale;
        let anchor = if x > f64::from(LEFT + across - 30) {
            "end"
        } else {
            "middle"
        };
        let _ = write!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{base}\" y2=\"{}\" stroke=\"{MUTED}\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\" fill=\"{MUTED}\">{}</text>",
            base + 5,
            base + 19,
            time(at_ns, step_ns)
        );
        at_ns += step_ns;
    }
    let _ = write!(
        out,
        "<text x=\"20\" y=\"{}\" fill=\"{MUTED}\">time since start</text>",
        base + 19
    );
}

/// Faults per time below the axis.
fn strip(out: &mut String, scene: &Scene, raster: &Raster, (across, down): (u32, u32)) {
    let base = TOP + down + 26 + STRIP;
    let columns = (across / 4).max(1);
    let mut sums = vec![0u64; columns as usize + 1];
    for x in 0..across {
        for y in 0..down {
            let counts = raster.at(x as usize, y as usize);
            sums[(x / 4) as usize] += counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        }
    }
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    let mut path = format!("M{LEFT} {base}");
    for (index, sum) in sums.iter().enumerate() {
        let x = LEFT as usize + index * 4;
        let end = (x + 4).min((LEFT + across) as usize);
        let y = f64::from(base) - f64::from(STRIP) * *sum as f64 / most as f64;
        let _ = write!(path, "L{x} {y:.1}L{end} {y:.1}");
    }
    let _ = write!(path, "L{} {base}Z", LEFT + across);
    let per_second =
        most as f64 / (4.0 * (scene.span * scene.step_ns + 1) as f64 / f64::from(across)) * 1e9;
    let _ = write!(
        out,
        "<path d=\"{path}\" fill=\"#8a93a0\"/>\
         <text x=\"20\" y=\"{}\" fill=\"{MUTED}\">faults per second</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"10\" fill=\"{MUTED}\">{}</text>",
        base - 12,
        LEFT - 6,
        base - STRIP + 10,
        grouped(per_second as u64)
    );
}

/// Losses and gaps, where they were.
fn missing(out: &mut String, scene: &Scene, across: u32, down: u32) {
    let scale = f64::from(across) / (scene.span as f64 + 1.0);
    let place = |ns: u64| ((ns - scene.start_ns) / scene.step_ns) as f64 * scale;
    let mut last = f64::NEG_INFINITY;
    for missing in &scene.missing {
        let (from, to) = (
            place(missing.time_ns),
            place(missing.end_ns.max(missing.time_ns)),
        );
        // What lies within the last bar is already red.
        if to < last + 1.0 {
            continue;
        }
        last = to.max(from + 2.0);
        let _ = write!(
            out,
            "<rect x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{down}\" fill=\"{BAD}\" fill-opacity=\"0.15\"/>",
            f64::from(LEFT) + from,
            (to - from).max(2.0)
        );
    }
}
