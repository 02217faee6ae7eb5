// SPDX-License-Identifier: GPL-2.0-only

//! No memory was forgotten by what the tests before have done: this is the last one in a guest, by its name.
//!
//! It needs a kernel that looks for such memory (`CONFIG_DEBUG_KMEMLEAK`, `make test-debug-kernel`). On others there is
//! nothing to be done.

use std::{fs, path::Path, thread, time::Duration};

use sandbox_tests::guest;

#[test]
fn nothing_is_left_that_nobody_knows() {
    guest::test(|_| {
        let kmemleak = Path::new("/sys/kernel/debug/kmemleak");
        if !kmemleak.exists() {
            return;
        }
        // What is younger than five seconds is on its way, and what has changed since the last look.
        for _ in 0..3 {
            thread::sleep(Duration::from_secs(6));
            fs::write(kmemleak, "scan").expect("kmemleak does not look");
        }
        let forgotten = fs::read_to_string(kmemleak).expect("kmemleak cannot be read");
        assert_eq!(forgotten, "", "allocated, and forgotten");
    });
}
