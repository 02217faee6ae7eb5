// SPDX-License-Identifier: GPL-2.0-only

//! Loading and unloading the module, and the kernel's own driver of device memory.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// The module's name.
pub const NAME: &str = "fault_tracer";

/// The kernel's own test driver of memory that a device has, `lib/test_hmm.c`.
const DEVICE_MEMORY: &str = "test_hmm";

/// The running kernel's release.
fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// The module for the running kernel.
pub fn path() -> PathBuf {
    format!("/lib/modules/{}/updates/{NAME}.ko", release()).into()
}

/// The running kernel's own image: a file of some size that no program has mapped.
pub fn kernel_image() -> String {
    let path = format!("/lib/modules/{}/vmlinuz", release());
    assert!(Path::new(&path).exists(), "{path} does not exist");
    path
}

/// Whether the running kernel was built with an option.
pub fn kernel_has(option: &str) -> bool {
    let path = format!("/lib/modules/{}/config", release());
    let options = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = format!("{option}=y");
    options.lines().any(|option| option == line)
}

/// A module that is loaded: unloaded when this goes.
#[must_use]
pub struct Loaded(&'static str);

/// Whether durations are measured by the ftrace hook, too, and not by the kprobe alone.
pub const RETURNS_AFTER_FTRACE: bool = cfg!(target_arch = "x86_64");

/// Whether stacks are recorded as copies, too, and not by frame pointers alone.
pub const STACKS_CAN_BE_COPIED: bool = cfg!(target_arch = "x86_64");

/// Loads the module with parameters, as `insmod` does, but with the kernel's own error.
pub fn load(parameters: &str) -> io::Result<Loaded> {
    load_file(NAME, &path(), parameters)
}

/// Loads the module from another file, without parameters.
pub fn load_from(file: &Path) -> io::Result<Loaded> {
    load_file(NAME, file, "")
}

/// Loads the driver of device memory, which `tests/guest/build-device-memory` builds. `None` on a kernel whose source
/// the sandbox does not keep.
pub fn load_device_memory() -> Option<Loaded> {
    let release = release();
    let series: Vec<_> = release.splitn(3, '.').take(2).collect();
    let source = format!("/usr/src/linux-source-{}", series.join("."));
    // Guests of other processors see no source; their kernels are of the one that is kept.
    (cfg!(not(target_arch = "x86_64")) || Path::new(&source).exists()).then(|| {
        let path = format!("/checkout/build/{release}/device-memory/{DEVICE_MEMORY}.ko");
        let path = PathBuf::from(path);
        load_file(DEVICE_MEMORY, &path, "").expect("the driver of device memory does not load")
    })
}

fn load_file(name: &'static str, path: &Path, parameters: &str) -> io::Result<Loaded> {
    Image::open(name, path, parameters).load()
}

/// A module's file and parameters, with which it can be loaded by a single system call.
pub struct Image {
    name: &'static str,
    file: File,
    parameters: CString,
}

impl Image {
    /// The module for the running kernel.
    pub fn of_module(parameters: &str) -> Self {
        Self::open(NAME, &path(), parameters)
    }

    fn open(name: &'static str, path: &Path, parameters: &str) -> Self {
        let file = File::open(path)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        Self {
            name,
            file,
            parameters: CString::new(parameters).expect("parameters have no zero byte"),
        }
    }

    /// Loads it: `finit_module` itself.
    pub fn load(&self) -> io::Result<Loaded> {
        // SAFETY: `finit_module` reads the file and the string, both alive during the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_finit_module,
                self.file.as_raw_fd(),
                self.parameters.as_ptr(),
                0,
            )
        };
        if result == 0 {
            Ok(Loaded(self.name))
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Loads the module without parameters.
pub fn load_idle() -> Loaded {
    load("").expect("the module does not load")
}

/// Unloads the module, as `rmmod` does, but with the kernel's own error: `EWOULDBLOCK` if it is in use.
pub fn unload() -> io::Result<()> {
    unload_named(NAME)
}

fn unload_named(name: &str) -> io::Result<()> {
    let name = CString::new(name).expect("a name has no zero byte");
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
        let result = unload_named(self.0);
        std::mem::forget(self);
        result
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Err(error) = unload_named(self.0) {
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
