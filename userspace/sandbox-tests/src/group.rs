// SPDX-License-Identifier: GPL-2.0-only

//! Control groups of the guest.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const ROOT: &str = "/sys/fs/cgroup";

/// A control group, gone when dropped.
pub struct Group(PathBuf);

impl Group {
    /// Makes one by its path below the root of all.
    pub fn new(name: &str) -> Self {
        let folder = Path::new(ROOT).join(name);
        fs::create_dir(&folder).expect("cannot make a control group");
        Self(folder)
    }

    /// As [`Group::new`], of those right below the root, with a limit: the controller's file and what is to be in it.
    pub fn limited(name: &str, controller: &str, file: &str, limit: &str) -> Self {
        fs::write(
            Path::new(ROOT).join("cgroup.subtree_control"),
            format!("+{controller}"),
        )
        .expect("control groups have no such controller");
        let group = Self::new(name);
        fs::write(group.0.join(file), limit).expect("cannot set the limit");
        group
    }

    /// Its folder.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    /// Puts a process into it.
    pub fn add(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
            .expect("cannot put a process into the control group");
    }

    /// What stands in one of its files.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).expect("cannot read the control group")
    }

    /// Kills all that is in it.
    pub fn kill(&self) {
        fs::write(self.0.join("cgroup.kill"), "1").expect("cannot kill the control group");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has just ended is in it for a moment.
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() {
            let is_late = Instant::now() >= deadline;
            assert!(
                !is_late || thread::panicking(),
                "{} cannot be removed",
                self.0.display()
            );
            if is_late {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
