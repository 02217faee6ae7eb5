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
}
