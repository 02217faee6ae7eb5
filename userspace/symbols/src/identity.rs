// SPDX-License-Identifier: GPL-2.0-only

//! Whether a file that stands somewhere now is the one that was mapped.

use std::{
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt as _,
};

use rustix::fs::{fstatfs, major, minor, statx, AtFlags, StatxFlags};

/// `BTRFS_SUPER_MAGIC` and `OVERLAYFS_SUPER_MAGIC` of `include/uapi/linux/magic.h`: there `stat` tells other
/// device numbers than the superblock has, which mappings are reported with.
const MANY_DEVICES: [u64; 2] = [0x9123_683e, 0x794c_7630];

/// Whether a file is a regular one with this device (major number in the high, minor in the low 32 bits) and inode.
/// `mounts` is the `mountinfo` of a process in whose mount namespace it was opened.
pub fn is_file_of(
    file: &File,
    metadata: &Metadata,
    (device, inode): (u64, u64),
    mounts: &str,
) -> bool {
    if !metadata.is_file() || metadata.ino() != inode {
        return false;
    }
    let of_stat = metadata.dev();
    packed(major(of_stat), minor(of_stat)) == device
        || fstatfs(file).is_ok_and(|of| MANY_DEVICES.contains(&(of.f_type as u64 & 0xffff_ffff)))
            && superblock(file, mounts) == Some(device)
}

/// Time of a file's last change (`st_ctime`), in nanoseconds since 1970.
pub fn changed_ns(metadata: &Metadata) -> i64 {
    metadata
        .ctime()
        .saturating_mul(1_000_000_000)
        .saturating_add(metadata.ctime_nsec())
}

fn packed(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

/// The device number of the superblock that a file is on, by the mount that it was opened through.
fn superblock(file: &File, mounts: &str) -> Option<u64> {
    let mount = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    // Paths in it may be of any bytes.
    let mounts = fs::read(mounts).ok()?;
    let mounts = String::from_utf8_lossy(&mounts);
    mounts.lines().find_map(|line| {
        // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
        let mut fields = line.split(' ');
        let id: u64 = fields.next()?.parse().ok()?;
        let device = fields.nth(1).filter(|_| id == mount.stx_mnt_id)?;
        let (major, minor) = device.split_once(':')?;
        Some(packed(major.parse().ok()?, minor.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each file that `/proc/self/maps` names: by `stat` where that is true, else by the mounts.
    #[test]
    fn superblocks_are_those_of_maps() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut checked = 0;
        for line in maps.lines() {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let [_, _, _, device, inode, path] = fields[..] else {
                continue;
            };
            let (Ok(file), Some((major, minor))) = (File::open(path), device.split_once(':'))
            else {
                continue;
            };
            let number = |text| u32::from_str_radix(text, 16).unwrap();
            let device = packed(number(major), number(minor));
            let inode = inode.parse().unwrap();
            let metadata = file.metadata().unwrap();
            let is = |device, inode| {
                is_file_of(&file, &metadata, (device, inode), "/proc/self/mountinfo")
            };
            assert_eq!(superblock(&file, "/proc/self/mountinfo"), Some(device));
            assert!(is(device, inode), "{line}");
            assert!(!is(device, inode + 1) && !is(device + 1, inode), "{line}");
            checked += 1;
        }
        assert!(checked > 0, "{maps}");
    }
}
