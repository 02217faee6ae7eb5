// SPDX-License-Identifier: GPL-2.0-only

//! Numbers, sizes and times as pictures write them, and the places of ticks.

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 fault`, `2,000 faults`.
pub fn counted(number: u64, one: &str) -> String {
    format!(
        "{} {one}{}",
        grouped(number),
        if number == 1 { "" } else { "s" }
    )
}

/// Bytes in binary units: `640 KiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 10.0 && value.fract() > 0.05 {
        format!("{value:.1} {}", units[unit])
    } else {
        format!("{value:.0} {}", units[unit])
    }
}

/// A time with as many digits as a step of the axis needs: `1.25 s`.
pub fn time(ns: u64, step_ns: u64) -> String {
    let (unit, name) = match ns.max(step_ns) {
        0..=999 => (1, "ns"),
        1_000..=999_999 => (1_000, "µs"),
        1_000_000..=999_999_999 => (1_000_000, "ms"),
        _ => (1_000_000_000u64, "s"),
    };
    let mut digits = 0;
    let mut fine = unit;
    while fine > step_ns.max(1) && digits < 9 {
        fine /= 10;
        digits += 1;
    }
    format!("{:.*} {name}", digits, ns as f64 / unit as f64)
}

/// A step of 1, 2 or 5 times a power of ten that divides a length into at most so many parts.
pub fn decimal_step(length: u64, parts: u64) -> u64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if length / (step * factor) <= parts {
                return step * factor;
            }
        }
        step *= 10;
    }
}

/// A text for people: no control characters, no marks that turn its direction.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => '\u{b7}',
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => '\u{b7}',
            '\u{fffe}' | '\u{ffff}' => '\u{b7}',
            c => c,
        })
        .collect()
}

/// A text cut to so many characters, with an ellipsis in its middle.
pub fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let tail = most / 2;
    let head: String = text.chars().take(most - tail - 1).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{head}…{end}")
}

/// A text in XML, in elements and attributes.
pub fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "fault"), "1 fault");
        assert_eq!(size(4096), "4 KiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(time(1_250_000_000, 50_000_000), "1.25 s");
        assert_eq!(time(0, 1_000_000_000), "0 s");
        assert_eq!(time(200, 100), "200 ns");
        assert_eq!(decimal_step(1000, 8), 200);
        assert_eq!(decimal_step(1, 8), 1);
    }

    #[test]
    fn hostile_texts_stay_texts() {
        assert_eq!(
            xml("</text><script>\"'&"),
            "&lt;/text&gt;&lt;script&gt;&quot;&#39;&amp;"
        );
        assert_eq!(printable("a\u{0}b\u{202e}c\nd"), "a·b·c·d");
        assert_eq!(shortened("abcdefghij", 5), "ab…ij");
    }
}
