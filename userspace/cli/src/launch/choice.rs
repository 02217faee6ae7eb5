// SPDX-License-Identifier: GPL-2.0-only

//! Whom to trace by what they are: finds what the command line names, and tells the module.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{bail, Context as _};
use fault_tracer_client::{Rule, RuleKind, Session};

use crate::args::choice::{Choice, ChoiceArgs};

/// Adds the rules to a session.
pub fn add(session: &Session, choice: &ChoiceArgs) -> anyhow::Result<()> {
    for chosen in choice.chosen() {
        add_one(session, &chosen, false)?;
    }
    for excepted in &choice.except {
        add_one(session, excepted, true)?;
    }
    Ok(())
}

fn add_one(session: &Session, choice: &Choice, except: bool) -> anyhow::Result<()> {
    let file;
    let kind = match choice {
        Choice::Process(pid) => RuleKind::Process(*pid),
        Choice::User(user) => RuleKind::User(user_number(user, Path::new("/etc/passwd"))?),
        Choice::Cgroup(path) => RuleKind::Cgroup(cgroup_number(path)?),
        Choice::Executable(path) => {
            file = File::open(path)
                .with_context(|| format!("the program {} cannot be looked at", path.display()))?;
            if !file.metadata()?.is_file() {
                bail!("{} is no file that can be executed", path.display());
            }
            RuleKind::Executable(file.as_fd())
        }
        Choice::Name(name) => RuleKind::Name(name.as_bytes()),
    };
    Ok(session.add_rule(&Rule { kind, except })?)
}

/// The number of a user, by name or number.
fn user_number(user: &str, users: &Path) -> anyhow::Result<u32> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let text = fs::read(users).with_context(|| format!("{} cannot be read", users.display()))?;
    let text = String::from_utf8_lossy(&text);
    let number = text.lines().find_map(|line| {
        // name:password:number: see passwd(5).
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok())?
    });
    number.with_context(|| {
        format!(
            "there is no user {user} in {}: name the user by number (id -u {user} may know it)",
            users.display()
        )
    })
}

/// `CGROUP2_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The number of a control group: the inode of its folder in the cgroup2 file system.
fn cgroup_number(path: &Path) -> anyhow::Result<u64> {
    let mut tried = Vec::new();
    for folder in cgroup_folders(path)? {
        match fs::metadata(&folder) {
            Ok(found) if found.is_dir() && is_cgroup2(&folder)? => return Ok(found.ino()),
            Ok(_) => tried.push(format!("{} is none", folder.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tried.push(format!("there is no {}", folder.display()));
            }
            Err(error) => bail!("{}: {error}", folder.display()),
        }
    }
    bail!(
        "{} is no control group of the cgroup2 file system: {}; name its folder, or what /proc/PID/cgroup says",
        path.display(),
        tried.join(", ")
    )
}

fn is_cgroup2(folder: &Path) -> anyhow::Result<bool> {
    let system = rustix::fs::statfs(folder)
        .with_context(|| format!("{} cannot be looked at", folder.display()))?;
    // CAST: the number has 32 bits; the type of the field is that of a word of the machine.
    Ok(system.f_type as u64 == CGROUP2_SUPER_MAGIC)
}

/// Where the folder of a control group may be: the path as it is, and below each place where the file system is mounted.
fn cgroup_folders(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .context("where the cgroup2 file system is mounted cannot be found out")?;
    let inside = path.strip_prefix("/").unwrap_or(path);
    let below = cgroup2_mounts(&mounts).map(|mount| mount.join(inside));
    Ok(std::iter::once(path.to_owned()).chain(below).collect())
}

/// Where cgroup2 is mounted, as `/proc/self/mountinfo` says it; see proc_pid_mountinfo(5).
fn cgroup2_mounts(mountinfo: &str) -> impl Iterator<Item = PathBuf> + '_ {
    mountinfo.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let is = system.split(' ').next() == Some("cgroup2");
        is.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_name_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("passwd");
        fs::write(&users, "root:x:0:0:r:/root:/bin/sh\na\nwww:x:33:33::/:\n").unwrap();
        assert_eq!(user_number("www", &users).unwrap(), 33);
        assert_eq!(user_number("root", &users).unwrap(), 0);
        assert_eq!(user_number("4000000000", &users).unwrap(), 4_000_000_000);
        for nobody in ["nobody", "a", "-1", "4294967296"] {
            let text = user_number(nobody, &users).unwrap_err().to_string();
            assert!(
                text.contains(&format!("there is no user {nobody}")),
                "{text}"
            );
        }
    }

    #[test]
    fn where_control_groups_are() {
        let mounts = "24 30 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n\
                      25 30 0:23 / /proc rw - proc proc rw\n\
                      26 30 0:24 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n\
                      27 30 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let found: Vec<_> = cgroup2_mounts(mounts).collect();
        let expected = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        assert_eq!(found, expected);
        let text = cgroup_number(Path::new("/proc/self"))
            .unwrap_err()
            .to_string();
        assert!(text.contains("/proc/self is none"), "{text}");
        let text = cgroup_number(Path::new("no/such")).unwrap_err().to_string();
        assert!(text.contains("there is no no/such"), "{text}");
    }
}
