// SPDX-License-Identifier: GPL-2.0-only

//! Numbers and times as people read them.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i != 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and a noun: `1 fault`, `2,000 faults`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        grouped(number),
        if number == 1 { one } else { many }
    )
}

/// A time in the unit that suits it: `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 07 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..=59 => format!("{:.1} s", (time.as_millis() / 100) as f64 / 10.0),
        60..=3599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A short time in the unit that suits it: `850 ns`, `12.3 µs`, `4.56 ms`, `7.89 s`.
pub fn short(time_ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    for (unit, name) in units {
        if time_ns >= unit {
            let whole = time_ns / unit;
            let hundredths = time_ns % unit * 100 / unit;
            return match whole {
                0..=9 => format!("{whole}.{hundredths:02} {name}"),
                10..=99 => format!("{whole}.{} {name}", hundredths / 10),
                _ => format!("{} {name}", grouped(whole)),
            };
        }
    }
    format!("{time_ns} ns")
}

/// A part from 0 to 1 as a percentage of three digits or fewer: `12.3 %`, `0.04 %`, `100 %`.
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    match percent.abs() {
        0.0 => "0 %".into(),
        value if value >= 99.95 => format!("{percent:.0} %"),
        value if value >= 0.995 => format!("{percent:.1} %"),
        value if value >= 0.005 => format!("{percent:.2} %"),
        _ => "<0.01 %".into(),
    }
}

/// `one` of `all` as a percentage; nothing where there is no `all`.
pub fn share(one: u64, all: u64) -> String {
    if all == 0 {
        return String::new();
    }
    percent(one as f64 / all as f64)
}

/// Bytes as memory: `4 KiB`, `12.3 MiB`.
pub fn memory(bytes: u64) -> String {
    let kib = bytes / 1024;
    match kib {
        0..=1023 => format!("{kib} KiB"),
        1024..=1_048_575 => format!("{:.1} MiB", kib as f64 / 1024.0),
        _ => format!("{:.1} GiB", kib as f64 / 1_048_576.0),
    }
}

/// A last part of a path, for where there is little room.
pub fn file_name(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((_, name)) if !name.is_empty() => name,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "fault", "faults"), "1 fault");
        assert_eq!(counted(1000, "fault", "faults"), "1,000 faults");
    }

    #[test]
    fn short_times_have_three_digits() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (12_390, "12.3 µs"),
            (999_999, "999 µs"),
            (4_567_000, "4.56 ms"),
            (7_890_000_000, "7.89 s"),
            (1_234_000_000_000, "1,234 s"),
        ];
        for (time_ns, text) in cases {
            assert_eq!(short(time_ns), text);
        }
    }

    #[test]
    fn times_have_a_fitting_unit() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 00 s"),
            (3_599_999, "59 min 59 s"),
            (7_620_000, "2 h 07 min"),
        ];
        for (millis, text) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn parts_and_memory() {
        let parts = [0.0, 0.00001, 0.0004, 0.0123, 0.5, 0.9996, 1.0, 12.5].map(percent);
        assert_eq!(
            parts,
            ["0 %", "<0.01 %", "0.04 %", "1.2 %", "50.0 %", "100 %", "100 %", "1250 %"]
        );
        assert_eq!((share(1, 4), share(1, 0)), ("25.0 %".into(), String::new()));
        assert_eq!(
            [4096, 1 << 20, 400_000 << 12].map(memory),
            ["4 KiB", "1.0 MiB", "1.5 GiB"]
        );
        assert_eq!(
            ["/bin/a", "[heap]", "/"].map(file_name),
            ["a", "[heap]", "/"]
        );
    }
}
