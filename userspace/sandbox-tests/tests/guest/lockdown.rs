// SPDX-License-Identifier: GPL-2.0-only

//! A kernel that is locked down for confidentiality. There is no way back: these tests have a guest of their own.

use std::{fs, path::Path, process::Command};

use sandbox_tests::{
    device::{Session, Setup},
    guest, module, tool,
};

#[test]
fn nobody_traces_when_the_kernel_is_locked_down() {
    guest::test(|_| {
        let module = module::load_idle();
        let file = Path::new("/sys/kernel/security/lockdown");
        if !file.exists() {
            let mount = ["-t", "securityfs", "none", "/sys/kernel/security"];
            assert!(Command::new("mount")
                .args(mount)
                .status()
                .unwrap()
                .success());
        }
        let before = Session::idle(Setup::default());
        fs::write(file, "confidentiality").expect("the kernel cannot be locked down");
        let error = Session::open().map(drop).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        // A file from before is no way around.
        let error = before.add(1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let error = before.start().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let text = tool::run(&["record", "-a", "-o", "/dev/null"], 1);
        assert!(text.contains("locked down for confidentiality"), "{text}");
        drop(before);
        module.unload().unwrap();
    });
}
