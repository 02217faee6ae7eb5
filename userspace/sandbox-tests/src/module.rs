// SPDX-License-Identifier: GPL-2.0-only

//! Loading and unloading the module.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::PathBuf,
};

/// The module's name.
pub const NAME: &str = "fault_tracer";

/// The module for the running kernel.
pub fn path() -> PathBuf {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    format!("/lib/modules/{release}/updates/{NAME}.ko").into()
}

/// A module that is loaded: unloaded when this goes.
#[must_use]
pub struct Loaded(());

/// Loads the module with parameters, as `insmod` does, but with the kernel's own error.
pub fn load(parameters: &str) -> io::Result<Loaded> {
    let file = File::open(path())
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path().display()));
    let parameters = CString::new(parameters).expect("parameters have no zero byte");
    // SAFETY: `finit_module` reads the file and the string, both alive during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            parameters.as_ptr(),
            0,
        )
    };
    if result == 0 {
        Ok(Loaded(()))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Loads the module without parameters.
pub fn load_idle() -> Loaded {
    load("").expect("the module does not load")
}

/// Unloads the module, as `rmmod` does, but with the kernel's own error: `EWOULDBLOCK` if it is in use.
pub fn unload() -> io::Result<()> {
    let name = CString::new(NAME).expect("a name has no zero byte");
    // SAFETY: `delete_module` reads the string, alive during the call.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl Loaded {
    /// Unloads it.
    pub fn unload(self) -> io::Result<()> {
        let result = unload();
        std::mem::forget(self);
        result
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Err(error) = unload() {
            // A test that fails already says why itself.
            assert!(
                std::thread::panicking(),
                "the module does not unload: {error}"
            );
        }
    }
}

/// Whether it is loaded.
pub fn is_loaded() -> bool {
    fs::read_to_string("/proc/modules")
        .expect("cannot read /proc/modules")
        .lines()
        .any(|line| line.split(' ').next() == Some(NAME))
}

/// The kernel's kprobes.
pub fn kprobes() -> Vec<String> {
    fs::read_to_string("/sys/kernel/debug/kprobes/list")
        .expect("cannot read /sys/kernel/debug/kprobes/list")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Checks that the module has left nothing in the kernel.
pub fn assert_gone() {
    assert!(!is_loaded(), "the module is still in /proc/modules");
    assert!(
        !crate::device::path().exists(),
        "{} is still there",
        crate::device::path().display()
    );
    assert_eq!(kprobes(), [""; 0], "kprobes are left");
}
