// SPDX-License-Identifier: GPL-2.0-only

//! Times, sizes and ids as people write them on a command line.

use std::time::Duration;

use fault_tracer_client::{uapi, Stacks};

/// Splits a number from the unit behind it.
fn number_and_unit(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-'))
        .unwrap_or(text.len());
    // An exponent, as in 1e3.
    let end = match text[end..].strip_prefix(['e', 'E']) {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') => {
            let digits = rest[1..].find(|c: char| !c.is_ascii_digit());
            digits.map_or(text.len(), |digits| end + 2 + digits)
        }
        _ => end,
    };
    let (number, unit) = text.split_at(end);
    let number = number
        .parse()
        .map_err(|_| "a number is needed, with or without a unit behind it".to_owned())?;
    Ok((number, unit.trim_start()))
}

/// Reads a time: seconds, or with a unit (`500ms`, `5s`, `2m`, `1h`).
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("unknown unit {other:?}: use ms, s, m or h")),
    };
    match Duration::try_from_secs_f64(number * factor) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) => Err("must be more than 0".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a size of rings, in KiB: KiB, or with a unit (`64K`, `4M`, `4MiB`).
pub fn ring_kib(text: &str) -> Result<u64, String> {
    const LEAST: u64 = uapi::RING_BYTES_MIN / 1024;
    const MOST: u64 = uapi::RING_BYTES_MAX / 1024;
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "k" | "kb" | "kib" => 1.0,
        "m" | "mb" | "mib" => 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0,
        _ => return Err(format!("unknown unit {unit:?}: use K, M or G")),
    };
    let kib = number * factor;
    // CAST: whole, and in the range.
    if kib.fract() == 0.0
        && (LEAST as f64..=MOST as f64).contains(&kib)
        && (kib as u64).is_power_of_two()
    {
        return Ok(kib as u64);
    }
    Err(format!(
        "must be a power of two from {} to {} for each CPU",
        size(LEAST),
        size(MOST)
    ))
}

/// KiB as [`ring_kib`] reads them, in the largest unit in which they are whole.
pub fn size(kib: u64) -> String {
    match kib {
        _ if kib % (1 << 20) == 0 => format!("{}G", kib >> 20),
        _ if kib % 1024 == 0 => format!("{}M", kib / 1024),
        _ => format!("{kib}K"),
    }
}

/// When a recording goes on in another file: after a time, a size of the trace, or whichever is reached first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// After that time.
    pub time: Option<Duration>,
    /// After so many bytes.
    pub bytes: Option<u64>,
}

/// Reads when a recording goes on in another file: `10m`, `1G`, `10m,1G`. Sizes have capital units, times have small ones.
pub fn rotation(text: &str) -> Result<Rotation, String> {
    const TIME_LEAST: Duration = Duration::from_secs(1);
    const BYTES_LEAST: u64 = 1 << 16;
    let mut rotation = Rotation::default();
    for part in text.split(',') {
        let (number, unit) = number_and_unit(part)?;
        let scale = match unit.trim_end_matches('B').trim_end_matches('i') {
            "K" => 1u64 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            "T" => 1 << 40,
            _ => 0,
        };
        let is_twice = if scale != 0 {
            // CAST: what is no size, or too large, becomes one of the ends.
            let bytes = (number * scale as f64) as u64;
            if bytes < BYTES_LEAST {
                return Err("a size must be 64K or more".into());
            }
            rotation.bytes.replace(bytes).is_some()
        } else {
            let seconds =
                match unit {
                    "s" => 1.0,
                    "m" | "min" => 60.0,
                    "h" => 3600.0,
                    "d" => 86_400.0,
                    _ => return Err(
                        "use a time with s, m, h or d, or a size with K, M, G or T, as 10m or 1G"
                            .into(),
                    ),
                };
            let time =
                Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())?;
            if time < TIME_LEAST {
                return Err("a time must be 1s or more".into());
            }
            rotation.time.replace(time).is_some()
        };
        if is_twice {
            return Err("name one time, one size, or one of each".into());
        }
    }
    Ok(rotation)
}

/// Bytes of a stack that are copied unless said otherwise, as of perf.
const STACK_BYTES_DEFAULT: u32 = 8192;
/// Return addresses that are recorded at most unless said otherwise, as of perf.
const STACK_FRAMES_DEFAULT: u32 = 127;

/// How `-g` has stacks recorded: by copies where the module makes them.
pub const STACKS_DEFAULT: Stacks = if cfg!(target_arch = "x86_64") {
    Stacks::Copy(STACK_BYTES_DEFAULT)
} else {
    Stacks::Frames(STACK_FRAMES_DEFAULT)
};

/// Reads how stacks are recorded: `fp`, `fp,64`, `dwarf`, `dwarf,16384`, `auto`, `auto,16384`.
pub fn stacks(text: &str) -> Result<Stacks, String> {
    let (how, size) = match text.split_once(',') {
        Some((how, size)) => (how, Some(size)),
        None => (text, None),
    };
    let size = |what: &str, default: u32, most: u32| match size {
        None => Ok(default),
        Some(text) => match text.trim().parse() {
            Ok(size) if (1..=most).contains(&size) => Ok(size),
            _ => Err(format!("{what} must be a number from 1 to {most}")),
        },
    };
    match how.trim() {
        "fp" => size("FRAMES", STACK_FRAMES_DEFAULT, uapi::STACK_FRAMES_MAX).map(Stacks::Frames),
        "dwarf" | "auto" if matches!(STACKS_DEFAULT, Stacks::Frames(_)) => Err(
            "this processor's stacks are recorded by frame pointers alone: use fp or fp,FRAMES"
                .into(),
        ),
        how @ ("dwarf" | "auto") => {
            let bytes = size("BYTES", STACK_BYTES_DEFAULT, uapi::STACK_BYTES_MAX)?;
            // Words alone can be copied.
            let bytes = bytes.next_multiple_of(8);
            Ok(match how {
                "auto" => Stacks::FramesOrCopy(bytes),
                _ => Stacks::Copy(bytes),
            })
        }
        _ => Err("use dwarf, dwarf,BYTES, auto, auto,BYTES, fp or fp,FRAMES".into()),
    }
}

/// Reads a process id.
pub fn pid(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(0) => Err("no process has the id 0: use -a to trace all processes".into()),
        Ok(pid @ 1..) => Ok(pid),
        Ok(_) => Err("ids of processes are positive".into()),
        Err(_) => Err(format!(
            "the id of a process is needed, a number (pidof {text} tells that of a running program)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_with_and_without_units() {
        for (text, millis) in [
            ("5", 5000),
            ("0.5", 500),
            ("5s", 5000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1.5 min", 90_000),
            ("1h", 3_600_000),
            ("1e1", 10_000),
            ("1e-1s", 100),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "s", "0", "0ms", "-1s", "5 days", "5ss", "inf", "nan", "1e300h", "1e", "--5",
            "1.2.3",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_with_and_without_units() {
        for (text, kib) in [
            ("4", 4),
            ("4096", 4096),
            ("64K", 64),
            ("64KiB", 64),
            ("4M", 4096),
            ("4MiB", 4096),
            ("4 mb", 4096),
            ("1G", 1 << 20),
            ("0.5M", 512),
        ] {
            assert_eq!(ring_kib(text), Ok(kib), "{text}");
        }
        for text in [
            "",
            "K",
            "0",
            "2",
            "3",
            "100",
            "2G",
            "-4",
            "4.5",
            "4T",
            "4096 pages",
        ] {
            assert!(ring_kib(text).is_err(), "{text}");
        }
        assert_eq!(
            [4, 4096, 1536, 1 << 20].map(size),
            ["4K", "4M", "1536K", "1G"]
        );
    }

    #[test]
    fn files_are_changed_after_times_and_sizes() {
        let (ten_minutes, gigabyte) = (Duration::from_secs(600), 1 << 30);
        for (text, time, bytes) in [
            ("10m", Some(ten_minutes), None),
            ("1G", None, Some(gigabyte)),
            ("10m,1G", Some(ten_minutes), Some(gigabyte)),
            ("1024MiB, 600s", Some(ten_minutes), Some(gigabyte)),
            ("1d", Some(Duration::from_secs(86_400)), None),
            ("64KB", None, Some(1 << 16)),
        ] {
            assert_eq!(rotation(text), Ok(Rotation { time, bytes }), "{text}");
        }
        for text in [
            "", "10", "1g", "1x", "m", "0m", "1K", "-1G", "10m,10m", "1G,2G", "10m,", "1e300h",
        ] {
            assert!(rotation(text).is_err(), "{text}");
        }
    }

    #[test]
    fn how_stacks_are_recorded() {
        for (text, read) in [
            ("fp", Stacks::Frames(127)),
            ("fp,16", Stacks::Frames(16)),
            ("dwarf", Stacks::Copy(8192)),
            ("dwarf,1001", Stacks::Copy(1008)),
            ("dwarf,32768", Stacks::Copy(32768)),
            ("auto", Stacks::FramesOrCopy(8192)),
            ("auto,1001", Stacks::FramesOrCopy(1008)),
        ] {
            assert_eq!(stacks(text), Ok(read), "{text}");
        }
        for text in [
            "",
            "lbr",
            "fp,",
            "fp,0",
            "fp,1025",
            "dwarf,32769",
            "dwarf,8K",
            "dwarf,-1",
            "auto,0",
        ] {
            assert!(stacks(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ids_that_are_none_come_with_a_hint() {
        assert_eq!(pid("7"), Ok(7));
        assert!(pid("0").unwrap_err().contains("-a"));
        assert!(pid("-5").unwrap_err().contains("positive"));
        assert!(pid("firefox").unwrap_err().contains("pidof firefox"));
    }

    proptest! {
        #[test]
        fn sizes_that_are_told_are_read(bits in 2..=20u32) {
            prop_assert_eq!(ring_kib(&size(1 << bits)), Ok(1 << bits));
        }

        #[test]
        fn anything_is_read_or_refused(text in ".{0,12}") {
            prop_assert!(duration(&text).is_ok_and(|time| !time.is_zero()) || duration(&text).is_err());
            prop_assert!(ring_kib(&text).is_err() || ring_kib(&text).is_ok_and(u64::is_power_of_two));
        }
    }
}
