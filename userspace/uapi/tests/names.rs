// SPDX-License-Identifier: GPL-2.0-only

//! Names of bytes as text: none is lost, and no two become one.

use fault_tracer_uapi::names::{escape, unescape};
use proptest::prelude::*;

#[test]
fn names_look_as_ls_and_the_kernel_write_them() {
    for (name, text) in [
        (&b"/usr/bin/ls"[..], "/usr/bin/ls"),
        ("/tmp/Zähler 字".as_bytes(), "/tmp/Zähler 字"),
        (b"/tmp/a\nb", "/tmp/a\\012b"),
        (b"/tmp/a\\b", "/tmp/a\\134b"),
        (b"/tmp/\xff", "/tmp/\\377"),
        (b"/tmp/\xfe", "/tmp/\\376"),
        ("\u{85}".as_bytes(), "\\302\\205"),
        (b"\x1b[31m\x7f", "\\033[31m\\177"),
    ] {
        assert_eq!(escape(name), text);
        assert_eq!(unescape(text), name);
    }
    // The text of a name that has the same characters as another's text.
    assert_ne!(escape(b"\n"), escape(b"\\012"));
}

proptest! {
    #[test]
    fn each_name_comes_back(name in prop::collection::vec(any::<u8>(), 0..60)) {
        let text = escape(&name);
        prop_assert!(!text.chars().any(char::is_control));
        prop_assert_eq!(unescape(&text), name);
    }

    #[test]
    fn two_names_are_two_texts(
        one in prop::collection::vec(prop::sample::select(&b"\\0\n12\xff\xc3\xa4"[..]), 0..6),
        other in prop::collection::vec(prop::sample::select(&b"\\0\n12\xff\xc3\xa4"[..]), 0..6),
    ) {
        prop_assert_eq!(escape(&one) == escape(&other), one == other);
    }

    #[test]
    fn no_text_panics(text in ".{0,40}|[\\\\0-9]{0,40}") {
        let _ = unescape(&text);
    }
}
