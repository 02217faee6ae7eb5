// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer plot`: a trace as a picture.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{anyhow, bail, Context as _};
use clap::Args;
use fault_tracer_analysis::{trends::trends, Analysis, Wanted};
use fault_tracer_plot::{page, pdf, png, svg, terminal, PageOptions, Processes, Scene, Size};

use crate::{
    input, note, output,
    text::{self, numbers::counted},
};

/// Behind the help of the options.
pub const MORE: &str = "\
The end of the picture's name says what it is:
  .html  an interactive page in one file, which works without a network: zoom, filters, sums
  .svg   a still picture with its text as vectors
  .pdf   the same for papers, with its fonts
  .png   the same as pixels
Without -o, the picture is drawn on the terminal.

Time goes to the right, addresses go upwards. Each region of memory (heap, a library, a stack) has a panel. \
Panels of files show offsets in the file, so that all processes lie over each other.

A trace that is damaged or cut off is drawn as far as it can be read.

Exit status: 0, also for a trace that was cut off; 1 if it is damaged or the picture cannot be written.

Examples:
  fault-tracer plot faults.arrows -o faults.html
  fault-tracer plot faults.arrows -o faults.html --trends
  fault-tracer plot faults.arrows -o faults.png --size 2400x1600
  fault-tracer plot faults.arrows -o faults.pdf --apart
  fault-tracer plot faults.arrows";

/// What `plot` takes.
#[derive(Args, Debug)]
pub struct Plot {
    /// The trace that `fault-tracer record` has written; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Write the picture to FILE, whose name ends with .html, .svg, .pdf or .png
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Size of a still picture in pixels, from 400x300 to 16000x16000
    #[arg(long, value_name = "WxH", default_value = "1600x1000", value_parser = size)]
    size: Size,

    /// Drop detail until the page has at most so many MB; the page says what is missing
    #[arg(long, value_name = "MB", default_value = "130", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_size: u64,

    /// Name the trends of `report --trends`: in a page as a list that leads to each, in a still picture below it
    #[arg(long)]
    trends: bool,

    /// Give each process panels of its own, not one place over the others: the eight with the most faults; all others
    /// share some
    #[arg(long)]
    apart: bool,

    /// Width of the picture on the terminal in characters [default: that of the terminal]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(40..=1000))]
    width: Option<u16>,

    /// Look for symbols also in DIR, by build id or path, as export does
    #[arg(long = "debug-dir", value_name = "DIR")]
    debug_dirs: Vec<PathBuf>,
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Picture {
    Page,
    Svg,
    Pdf,
    Png,
    Terminal,
}

/// Reads a size.
fn size(text: &str) -> Result<Size, String> {
    let wrong = || "must be WIDTHxHEIGHT, from 400x300 to 16000x16000".to_owned();
    let (width, height) = text.split_once('x').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let size = Size {
        width: number(width)?,
        height: number(height)?,
    };
    if !(400..=16_000).contains(&size.width) || !(300..=16_000).contains(&size.height) {
        return Err(wrong());
    }
    Ok(size)
}

/// What the output's name asks for.
fn picture(output: Option<&Path>) -> anyhow::Result<Picture> {
    let Some(path) = output else {
        return Ok(Picture::Terminal);
    };
    let end = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    match end.as_ref().and_then(|end| end.to_str()) {
        Some("html" | "htm") => Ok(Picture::Page),
        Some("svg") => Ok(Picture::Svg),
        Some("pdf") => Ok(Picture::Pdf),
        Some("png") => Ok(Picture::Png),
        _ => bail!(
            "{} does not say what picture it is: end its name with .html, .svg, .pdf or .png",
            path.display()
        ),
    }
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Plot) -> anyhow::Result<u8> {
    let picture = picture(arguments.output.as_deref())?;
    let mut rows = input::open(&arguments.file)?;
    let file = arguments
        .output
        .as_deref()
        .map(|path| Beside::new(path, &arguments.file))
        .transpose()?;
    let metadata = rows.metadata().clone();
    let mut symbols = input::symbols(&arguments.file, &metadata, &arguments.debug_dirs);
    let wanted = Wanted {
        regions: true,
        ..Wanted::default()
    };
    let mut analysis = arguments.trends.then(|| Analysis::new(&wanted, &metadata));
    let seen = rows.by_ref().inspect(|row| {
        if let (Some(analysis), Ok(row)) = (&mut analysis, row) {
            // No condition of a trend asks for symbols.
            analysis.add(row, &mut ());
        }
    });
    let processes = if arguments.apart {
        Processes::Apart
    } else {
        Processes::Together
    };
    let read = Scene::of(metadata, seen, &mut symbols, processes);
    let found = analysis.map(|analysis| trends(&analysis.finish()));
    let said = found.map_or_else(Vec::new, |found| text::trends::said(&found));
    let (scene, ended) = match read {
        Ok((scene, ended)) => (Ok(scene.with_trends(said)), ended),
        Err((error, ended)) => (Err(error), ended),
    };
    let status = ended.map_or(0, |error| input::report(&arguments.file, error));
    let name = || arguments.file.display().to_string();
    let scene = scene.with_context(name)?;
    let Some(file) = file else {
        let text = on_terminal(&scene, arguments.width);
        output::print(&text)?;
        return Ok(status);
    };
    file.write(|out| {
        match picture {
            Picture::Page => {
                let options = PageOptions {
                    max_size: Some(arguments.max_size * 1_000_000),
                };
                let report = page(&scene, options, out).with_context(name)??;
                for dropped in report.dropped {
                    note(&format!("--max-size: {dropped} had to be left out"));
                }
                note(&format!(
                    "{}, {:.1} MB",
                    counted(scene.faults() as u64, "fault", "faults"),
                    report.bytes as f64 / 1e6
                ));
            }
            Picture::Svg => {
                out.write_all(svg(&scene, arguments.size).with_context(name)?.as_bytes())?;
            }
            Picture::Pdf => out.write_all(&pdf(&scene, arguments.size).with_context(name)?)?,
            Picture::Png => out.write_all(&png(&scene, arguments.size).with_context(name)?)?,
            Picture::Terminal => {}
        }
        Ok(())
    })?;
    Ok(status)
}

/// The picture for standard output: of the terminal's size if it is one.
fn on_terminal(scene: &Scene, width: Option<u16>) -> String {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    let size = size.filter(|size| size.ws_col != 0 && size.ws_row != 0);
    let (columns, rows) = size.map_or((100, 40), |size| (size.ws_col, size.ws_row));
    let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    terminal(
        scene,
        width.unwrap_or(columns).into(),
        usize::from(rows.saturating_sub(2)),
        colours,
    )
}

/// A file that is written beside its place, and moved there when it is whole: a failure leaves the old one.
struct Beside {
    path: PathBuf,
    beside: PathBuf,
    file: Option<File>,
}

impl Beside {
    /// Makes it, beside `path`; which is not `trace`.
    fn new(path: &Path, trace: &Path) -> anyhow::Result<Self> {
        // A link stays one.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = path
            .file_name()
            .ok_or_else(|| anyhow!("{} names no file", path.display()))?;
        if path.exists() && !path.is_file() {
            bail!("{} is no file: name another one with -o", path.display());
        }
        if trace.canonicalize().is_ok_and(|trace| trace == path) {
            bail!(
                "{} is the trace itself: name another file with -o",
                path.display()
            );
        }
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}.tmp", std::process::id()));
        let beside = path.with_file_name(beside);
        let file = File::create_new(&beside)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self {
            path,
            beside,
            file: Some(file),
        })
    }

    /// Writes all of it.
    fn write(
        mut self,
        work: impl FnOnce(&mut dyn io::Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let name = self.path.display().to_string();
        let cannot = || format!("{name} cannot be written");
        if let Some(file) = self.file.take() {
            let mut out = BufWriter::with_capacity(1 << 18, file);
            work(&mut out).with_context(cannot)?;
            out.flush().with_context(cannot)?;
        }
        fs::rename(&self.beside, &self.path).with_context(cannot)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Moved away already where all went well.
        let _ = fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_kinds() {
        assert_eq!(
            size("800x600"),
            Ok(Size {
                width: 800,
                height: 600
            })
        );
        for wrong in ["", "800", "x", "1x1", "99999x500", "-800x600", "800x600x2"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(picture(Some(Path::new("a.HTML"))).unwrap(), Picture::Page);
        assert_eq!(picture(None).unwrap(), Picture::Terminal);
        let error = picture(Some(Path::new("a.gif"))).unwrap_err().to_string();
        assert!(error.contains(".html, .svg, .pdf or .png"), "{error}");
    }

    #[test]
    fn a_failure_leaves_the_old_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        fs::write(&path, "old").unwrap();
        let failed = Beside::new(&path, Path::new("-")).unwrap().write(|out| {
            out.write_all(b"half")?;
            bail!("no")
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Beside::new(&path, Path::new("-"))
            .unwrap()
            .write(|out| Ok(out.write_all(b"new")?))
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
