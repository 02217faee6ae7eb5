// SPDX-License-Identifier: GPL-2.0-only

//! Colours, for all pictures: told apart with each common colour vision deficiency, on light and dark.
//!
//! The first eight are Okabe and Ito's, darkened or lightened where they would vanish in the background; those of
//! rare kinds are of Tol's "muted" scheme.

use serde::Serialize;

/// A colour on light and on dark.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Colour(pub &'static str, pub &'static str);

/// Of [`fault_tracer_trace::Access::ALL`].
pub const ACCESSES: [Colour; 3] = [
    Colour("#0072b2", "#56b4e9"),
    Colour("#d55e00", "#f08a3c"),
    Colour("#009e73", "#35c99a"),
];

/// Of [`fault_tracer_trace::Kind::ALL`].
pub const KINDS: [Colour; fault_tracer_trace::Kind::ALL.len()] = [
    Colour("#882255", "#d0668f"), // hugetlb
    Colour("#661100", "#d98c7a"), // guard
    Colour("#aa3377", "#ee88bb"), // poisoned
    Colour("#777711", "#c6c64e"), // migration
    Colour("#44aa99", "#88ddcc"), // device-private
    Colour("#117733", "#66bb88"), // device-exclusive
    Colour("#1f2328", "#f2f2f2"), // swap-in
    Colour("#999933", "#d6d65c"), // numa-hint
    Colour("#555577", "#a9a9cc"), // protected
    Colour("#994455", "#ee99aa"), // uffd-rwp
    Colour("#6699cc", "#a9c9ee"), // uffd-wp
    Colour("#b8578f", "#e39bc4"), // copy-on-write
    Colour("#2f8f80", "#5fd0be"), // write-notify
    Colour("#7a7f87", "#9aa0a8"), // spurious
    Colour("#bb7722", "#eebb77"), // uffd-missing
    Colour("#447799", "#88bbdd"), // uffd-minor
    Colour("#8c6d9c", "#c9addb"), // changing
    Colour("#9a7b00", "#f0e442"), // special
    Colour("#332288", "#9c8cf0"), // shared-memory
    Colour("#009e73", "#35c99a"), // file-exec
    Colour("#c88700", "#e69f00"), // file-copy
    Colour("#3fa0dc", "#a8dcff"), // file-write
    Colour("#0072b2", "#56b4e9"), // file-read
    Colour("#d55e00", "#f08a3c"), // zero-fill
    Colour("#5e7a00", "#b5d948"), // zero-page
];

/// Of [`fault_tracer_trace::Fate::ALL`].
pub const FATES: [Colour; 5] = [
    Colour("#0072b2", "#56b4e9"),
    Colour("#d55e00", "#f08a3c"),
    Colour("#b8578f", "#e39bc4"),
    Colour("#1f2328", "#f2f2f2"),
    Colour("#7a7f87", "#9aa0a8"),
];

/// Of threads, processes and programs with the most faults; the last is that of all others.
pub const OTHERS: [Colour; 9] = [
    Colour("#0072b2", "#56b4e9"),
    Colour("#d55e00", "#f08a3c"),
    Colour("#009e73", "#35c99a"),
    Colour("#b8578f", "#e39bc4"),
    Colour("#c88700", "#e69f00"),
    Colour("#332288", "#9c8cf0"),
    Colour("#5e7a00", "#f0e442"),
    Colour("#882255", "#d0668f"),
    Colour("#7a7f87", "#9aa0a8"),
];

/// Of durations from short to long; the last is that of those not known.
pub const DURATIONS: [Colour; 9] = [
    Colour("#b8c4d6", "#3d4f6e"),
    Colour("#8fb0cf", "#4a6f96"),
    Colour("#5f9ac6", "#4f93b8"),
    Colour("#3a83b5", "#58b3c9"),
    Colour("#2b699b", "#86c9b0"),
    Colour("#6d4c94", "#c9d06a"),
    Colour("#a83a6f", "#f2b23e"),
    Colour("#d1401f", "#ff8a4d"),
    Colour("#7a7f87", "#6a7078"),
];

/// Red, green and blue of a colour as it is written above.
pub fn rgb(colour: &str) -> [u8; 3] {
    let part = |at: usize| {
        let digits = colour.get(at..at + 2);
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
    };
    [1, 3, 5].map(|at| part(at).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_colour_is_one() {
        let all = ACCESSES
            .iter()
            .chain(&KINDS)
            .chain(&FATES)
            .chain(&OTHERS)
            .chain(&DURATIONS);
        for Colour(light, dark) in all {
            for colour in [light, dark] {
                assert_eq!(colour.len(), 7);
                assert!(colour[1..].bytes().all(|digit| digit.is_ascii_hexdigit()));
            }
        }
        assert_eq!(rgb("#0072b2"), [0, 0x72, 0xb2]);
    }
}
