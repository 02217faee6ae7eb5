// SPDX-License-Identifier: GPL-2.0-only

//! A program that touches known pages in a known order gives exactly those pages in that order.

use sandbox_tests::{
    check,
    device::Setup,
    guest, module,
    program::{self, Run},
};

fn traced(arguments: &[&str]) -> Run {
    let run = program::trace(Setup::default(), arguments);
    run.recording.assert_complete();
    check::matches(&run.truth, &run.recording);
    run
}

/// All orders and accesses, each thread `pages` pages.
fn all_orders(pages: &str, threads: &str) {
    for order in ["forward", "backward", "random"] {
        for access in ["read", "write", "exec", "read-write"] {
            let run = traced(&[
                "touch",
                "--pages",
                pages,
                "--threads",
                threads,
                "--order",
                order,
                "--access",
                access,
            ]);
            let passes = if access == "read-write" { 2 } else { 1 };
            let reported =
                pages.parse::<usize>().unwrap() * threads.parse::<usize>().unwrap() * passes;
            assert_eq!(
                run.truth.faults.len(),
                reported,
                "{order} {access}: faults reported"
            );
        }
    }
}

#[test]
fn one_thread_gives_its_pages_in_order() {
    guest::test(|_| {
        let _module = module::load_idle();
        all_orders("500", "1");
    });
}

#[test]
fn eight_threads_give_their_pages_in_order() {
    guest::test(|_| {
        let _module = module::load_idle();
        all_orders("100", "8");
    });
}

#[test]
fn twenty_thousand_pages_are_all_there() {
    guest::test(|_| {
        let _module = module::load_idle();
        traced(&["touch", "--pages", "20000", "--order", "random"]);
    });
}

#[test]
fn no_page_is_lost_in_a_storm_of_forks_and_threads() {
    guest::test(|_| {
        let _module = module::load_idle();
        for seed in ["1", "2", "3"] {
            traced(&["storm", "--threads", "4", "--rounds", "60", "--seed", seed]);
        }
    });
}
