// SPDX-License-Identifier: GPL-2.0-only

//! Names of files and threads as text, the same in all crates.
//!
//! To the kernel a name is bytes. As text it is itself, but for bytes that are no UTF-8, control characters and the
//! backslash: each byte of these is a backslash and three octal digits, as `ls -b` and `/proc/PID/mounts` write them. So
//! two names never become one, and a name stays on its line.

use alloc::{string::String, vec::Vec};

/// A name of bytes as text.
pub fn escape(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                push_octal(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_octal(&mut text, chunk.invalid());
    }
    text
}

/// The name that [`escape`] made a text of. A backslash that begins no byte stands for itself.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut name = Vec::with_capacity(rest.len());
    while let Some((&first, behind)) = rest.split_first() {
        match octal(rest) {
            Some(byte) => {
                name.push(byte);
                rest = &rest[4..];
            }
            None => {
                name.push(first);
                rest = behind;
            }
        }
    }
    name
}

fn push_octal(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push('\\');
        for shift in [6, 3, 0] {
            text.push(char::from(b'0' + (byte >> shift & 7)));
        }
    }
}

/// The byte that a backslash and three octal digits at the beginning stand for.
fn octal(text: &[u8]) -> Option<u8> {
    let &[b'\\', digits @ ..] = text.first_chunk::<4>()? else {
        return None;
    };
    digits.iter().try_fold(0_u8, |byte, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        byte.checked_mul(8)?.checked_add(digit)
    })
}
