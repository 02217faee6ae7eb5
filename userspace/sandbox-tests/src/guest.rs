// SPDX-License-Identifier: GPL-2.0-only

//! The frame of each test: nothing left of the one before, and nothing left after it.

use std::{
    env,
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
};

use crate::{log::Log, module};

/// Set where the tests may do what they do.
const MARK: &str = "FAULT_TRACER_GUEST";

/// Runs a test: alone, with the module not loaded at its beginning. At its end the module can be
/// unloaded, has left nothing behind, and the kernel has complained of nothing.
pub fn test(body: impl FnOnce(&Log)) {
    static ALONE: Mutex<()> = Mutex::new(());
    assert!(
        env::var_os(MARK).is_some(),
        "these tests load kernel modules: run them inside the sandbox, by scripts/sandbox-tests"
    );
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let log = Log::from_now();
    module::assert_gone();
    let result = catch_unwind(AssertUnwindSafe(|| body(&log)));
    let unloaded = if module::is_loaded() {
        module::unload()
    } else {
        Ok(())
    };
    let trouble = log.trouble();
    if let Err(panic) = result {
        eprintln!("the module said: {:#?}", log.of_module());
        if !trouble.is_empty() {
            eprintln!("the kernel complained: {trouble:#?}");
        }
        resume_unwind(panic);
    }
    unloaded.expect("the module does not unload after the test");
    assert_eq!(trouble, [""; 0], "the kernel complained");
    module::assert_gone();
}

/// The process id of the tests, as system calls take it.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}
