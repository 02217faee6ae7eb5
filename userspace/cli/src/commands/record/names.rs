// SPDX-License-Identifier: GPL-2.0-only

//! Names of files that have the time of day in them, in UTC.

use chrono::DateTime;

/// Texts for names of files, by a time in nanoseconds since 1970: `2026-11-30T15-59-08Z`, then, for one that is taken,
/// `2026-11-30T15-59-08Z-2`, and so on without end. There are no colons, which `scp` and others take for the end of a host's
/// name.
pub fn of_time(wall_ns: i64) -> impl Iterator<Item = String> {
    let time = DateTime::from_timestamp_nanos(wall_ns)
        .format("%Y-%m-%dT%H-%M-%SZ")
        .to_string();
    (1u64..).map(move |number| match number {
        1 => time.clone(),
        more => format!("{time}-{more}"),
    })
}

/// The day of a time in nanoseconds since 1970: `2026-11-30`.
pub fn day(wall_ns: i64) -> String {
    DateTime::from_timestamp_nanos(wall_ns)
        .format("%Y-%m-%d")
        .to_string()
}
