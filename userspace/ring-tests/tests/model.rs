// SPDX-License-Identifier: GPL-2.0-only

//! The ring against a model that cannot be wrong: a queue of numbers.

#![cfg(not(loom))]

use std::collections::VecDeque;

use proptest::prelude::*;
use ring_tests::{push, ring::SLOT_WORDS, take, Memory};

#[derive(Clone, Debug)]
enum Step {
    Push,
    /// Takes what fits in a buffer of so many words.
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => Just(Step::Push),
        1 => (0..6 * SLOT_WORDS).prop_map(Step::Take),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_ring_is_a_bounded_queue(
        steps in steps(),
        size in 0..5u32,
        overwrite in any::<bool>(),
    ) {
        let slots = 1usize << size;
        let memory = Memory::new(slots);
        let ring = memory.ring(overwrite).unwrap();
        let mut model = VecDeque::new();
        let (mut hits, mut dropped, mut overwritten, mut delivered) = (0, 0, 0, 0);
        for step in steps {
            match step {
                Step::Push => {
                    let fits = model.len() < slots;
                    prop_assert_eq!(push(&ring, hits), fits || overwrite);
                    if fits || overwrite {
                        if !fits {
                            model.pop_front();
                            overwritten += 1;
                        }
                        model.push_back(hits);
                    } else {
                        dropped += 1;
                    }
                    hits += 1;
                }
                Step::Take(words) => {
                    let mut buffer = vec![0; words];
                    let (_, taken) = take(&ring, &mut buffer);
                    let count = model.len().min(words / SLOT_WORDS);
                    prop_assert_eq!(taken, model.drain(..count).collect::<Vec<_>>());
                    delivered += count as u64;
                }
            }
            let pending = model.len() as u64;
            prop_assert_eq!(ring.pending_faults(|| true), pending);
            prop_assert_eq!(ring.hits(), hits);
            prop_assert_eq!(ring.dropped(), dropped);
            prop_assert_eq!(ring.written() - delivered - pending, overwritten);
            prop_assert_eq!(hits, delivered + pending + dropped + overwritten);
        }
    }
}
