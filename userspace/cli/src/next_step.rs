// SPDX-License-Identifier: GPL-2.0-only

//! What to do where the device cannot be used: the command to type next, by what this machine has and lacks.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use fault_tracer_client::Error;

/// The oldest kernel that the module is for.
const OLDEST: (u32, u32) = (7, 2);
/// The group that the device's rule names.
const GROUP: &str = "fault-tracer";

/// What helps against an error, if it is one of a device that cannot be used.
pub fn after(error: &anyhow::Error) -> Option<String> {
    let root = Path::new("/");
    match error.downcast_ref()? {
        Error::NotLoaded { .. } => {
            let release = rustix::system::uname();
            Some(where_not_loaded(root, &release.release().to_string_lossy()))
        }
        Error::NotPermitted { path } => Some(where_not_permitted(root, Path::new(path))),
        Error::NotSpoken { .. } => Some(
            "the module that is loaded is of another version: rmmod fault_tracer, then modprobe the one that was installed with \
             this program (modinfo fault_tracer says where it is)"
                .into(),
        ),
        _ => None,
    }
}

/// What is missing before the module can be loaded.
fn where_not_loaded(root: &Path, release: &str) -> String {
    let modules = root.join("lib/modules").join(release);
    let is_listed = fs::read_to_string(modules.join("modules.dep"))
        .is_ok_and(|list| list.lines().any(names_module));
    if is_listed {
        return "the module is installed: sudo modprobe fault_tracer".into();
    }
    let sandbox =
        "make demo, in the source, tries everything in a sandbox; traces can be read anywhere";
    if version(release).is_some_and(|version| version < OLDEST) {
        return format!(
            "this kernel is {release}, and the module needs Linux {}.{} or later, with Rust: {sandbox}",
            OLDEST.0, OLDEST.1
        );
    }
    let build = modules.join("build");
    if !build.exists() {
        return format!(
            "the module is not built for this kernel, and its headers are missing: sudo apt-get install linux-headers-{release}, \
             then make && sudo insmod fault_tracer.ko in the source, or install fault-tracer-dkms"
        );
    }
    let has = |option: &str| {
        let config = fs::read_to_string(build.join("include/config/auto.conf"));
        config.is_ok_and(|config| config.lines().any(|line| line == format!("{option}=y")))
    };
    for option in ["CONFIG_RUST", "CONFIG_KPROBES"] {
        if !has(option) {
            return format!(
                "this kernel is built without {option}, which the module needs: {sandbox}"
            );
        }
    }
    if !build.join("rust/libkernel.rmeta").exists() {
        return format!(
            "this kernel's headers lack their Rust metadata: sudo fault-tracer-rust-metadata {release} makes it (sandbox/rust-metadata \
             in the source), then make && sudo insmod fault_tracer.ko"
        );
    }
    "the module is not built for this kernel: make && sudo insmod fault_tracer.ko in the source, or install fault-tracer-dkms"
        .into()
}

/// Whether a line of `modules.dep` is the module's, compressed or not.
fn names_module(line: &str) -> bool {
    let file = line.split(':').next().unwrap_or_default();
    let name = file.rsplit('/').next().unwrap_or_default();
    name.starts_with("fault_tracer.ko")
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What the caller lacks.
fn where_not_permitted(root: &Path, device: &Path) -> String {
    let groups = fs::read_to_string(root.join("etc/group")).unwrap_or_default();
    let Some(group) = id_of_group(&groups) else {
        return "run it with sudo; sudo make install, in the source, adds a group whose members may open the device".into();
    };
    let of_device = fs::metadata(root.join(device.strip_prefix("/").unwrap_or(device)));
    if of_device.is_ok_and(|device| device.gid() != group) {
        return format!(
            "run it with sudo; the device does not belong to the group {GROUP} yet: sudo udevadm trigger --subsystem-match=misc"
        );
    }
    let own = rustix::process::getgroups().unwrap_or_default();
    if !own.iter().any(|own| own.as_raw() == group) {
        return format!(
            "run it with sudo; or join the group: sudo usermod --append --groups {GROUP} $USER, and log in again"
        );
    }
    "run it with sudo; or let everybody trace processes of their own: sudo sysctl kernel.perf_event_paranoid=1; or give the program \
     the right to trace all: sudo setcap cap_perfmon,cap_ipc_lock=ep \"$(command -v fault-tracer)\""
        .into()
}

/// The id of [`GROUP`], by the text of `/etc/group`; see group(5).
fn id_of_group(groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != GROUP {
            return None;
        }
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_is_missing_is_named_with_the_next_command() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let release = "7.3.4+deb13-amd64";
        let says = |words: &str| {
            let said = where_not_loaded(root, release);
            assert!(said.contains(words), "{said}");
        };
        says("apt-get install linux-headers-7.3.4+deb13-amd64");
        let build = format!("lib/modules/{release}/build");
        write(
            root,
            &format!("{build}/include/config/auto.conf"),
            "CONFIG_KPROBES=y\n",
        );
        says("without CONFIG_RUST");
        let both = "CONFIG_RUST=y\nCONFIG_KPROBES=y\n";
        write(root, &format!("{build}/include/config/auto.conf"), both);
        says("fault-tracer-rust-metadata 7.3.4+deb13-amd64");
        write(root, &format!("{build}/rust/libkernel.rmeta"), "");
        says("make && sudo insmod");
        let list =
            "kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz\nupdates/dkms/fault_tracer.ko.xz:\n";
        write(root, &format!("lib/modules/{release}/modules.dep"), list);
        says("sudo modprobe fault_tracer");
        let old = where_not_loaded(root, "6.12.9-amd64");
        assert!(
            old.contains("needs Linux 7.2") && old.contains("make demo"),
            "{old}"
        );
    }

    #[test]
    fn the_group_is_named_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let device = Path::new("/dev/fault_tracer");
        assert!(where_not_permitted(root, device).contains("make install"));
        // Nobody is in it, and the device belongs to another.
        write(root, "etc/group", "root:x:0:\nfault-tracer:x:4000000001:\n");
        write(root, "dev/fault_tracer", "");
        assert!(where_not_permitted(root, device).contains("udevadm trigger"));
        let own = fs::metadata(root.join("dev/fault_tracer")).unwrap().gid();
        write(root, "etc/group", &format!("fault-tracer:x:{own}:\n"));
        let said = where_not_permitted(root, device);
        assert!(
            said.contains("setcap") || said.contains("usermod"),
            "{said}"
        );
    }
}
