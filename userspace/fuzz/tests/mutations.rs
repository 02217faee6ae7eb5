// SPDX-License-Identifier: GPL-2.0-only

//! Each target, on its corpus and on what can become of that: always the same mutations.

use std::{fs, path::Path};

use fault_tracer_fuzz::{seeds, TARGETS};

/// Of each input.
const MUTATIONS: usize = 100;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder:?} is empty");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Flips, replaces, removes, repeats or inserts something.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(random.u8(..));
        return;
    }
    let at = random.usize(..bytes.len());
    match random.u8(..6) {
        0 | 1 => bytes[at] ^= 1 << random.u8(..8),
        2 => bytes[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap(),
        3 => bytes.truncate(at),
        4 => {
            // A number of some size, where one may stand: any, or one with which sums overflow.
            let width = *random.choice(&[2, 4, 8]).unwrap();
            let at = at & !(width - 1);
            let any = random.u64(..);
            let number = *random
                .choice(&[any, 0, 1 << 31, 1 << 63, u64::MAX, u64::MAX - 8])
                .unwrap();
            let number = number.to_le_bytes();
            for (byte, new) in bytes[at..].iter_mut().zip(&number[..width]) {
                *byte = *new;
            }
        }
        _ => {
            let end = random.usize(at..=bytes.len()).min(at + 64);
            let part = bytes[at..end].to_vec();
            let to = random.usize(..=bytes.len());
            bytes.splice(to..to, part);
        }
    }
}

#[test]
fn any_input_is_read_to_an_end() {
    for (name, target) in TARGETS {
        let seeds = seeds(name).into_iter().map(|(_, bytes)| bytes);
        let mut random = fastrand::Rng::with_seed(0x6661_756c_7473);
        for input in seeds.chain(corpus(name)) {
            target(&input);
            for _ in 0..MUTATIONS {
                let mut input = input.clone();
                for _ in 0..random.usize(1..4) {
                    mutate(&mut random, &mut input);
                }
                target(&input);
            }
            let step = (input.len() / 100).max(1);
            for length in (0..input.len()).step_by(step) {
                target(&input[..length]);
            }
        }
    }
}
