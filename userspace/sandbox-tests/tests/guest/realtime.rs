// SPDX-License-Identifier: GPL-2.0-only

//! What a kernel with `CONFIG_PREEMPT_RT` asks for, and all others stand: nothing that the module does on a fault, at a
//! fork, an exec or a new name waits for a lock that another thread holds, and a ring has one producer.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _},
    process::Command,
    ptr,
};

use sandbox_tests::{
    guest, module, program,
    tool::{self, Recorder},
};

#[test]
fn urgent_threads_fault_in_files_that_others_rename() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("faults.arrows");
        let trace = trace.to_str().unwrap();
        let recorder = Recorder::start(&["record", "-a", "--ring-size", "16M", "-o", trace]);
        let files = folder.path().join("files");
        let output = Command::new(program::find("ft-workload"))
            .args([
                "rush",
                "--seconds",
                "10",
                "--folder",
                files.to_str().unwrap(),
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        recorder.end();
        let text = tool::run(&["verify", trace], 0);
        assert!(text.contains("difference 0"), "{text}");
        // Each fault in one of the files has a path that it has had at some time.
        let files = files.to_str().unwrap();
        let mut of_files = 0;
        for [path] in tool::columns(trace, ["mapping"], &[]) {
            if let Some(rest) = path.strip_prefix(files) {
                let parts: Vec<&str> = rest.split('/').collect();
                assert!(
                    parts.len() == 3
                        && ["here", "there"].contains(&parts[1])
                        && parts[2]
                            .split_once('-')
                            .is_some_and(|(name, _)| ["one", "other"].contains(&name)),
                    "{path}"
                );
                of_files += 1;
            }
        }
        let faults: usize = said.trim().parse().unwrap();
        assert!(
            of_files * 5 >= faults * 4,
            "{of_files} of {faults} have their whole paths"
        );
    });
}

/// `struct udmabuf_create` of `include/uapi/linux/udmabuf.h`.
#[repr(C)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

/// `UDMABUF_CREATE`.
const UDMABUF_CREATE: libc::c_ulong = 0x4018_7542;

/// Memory that devices could share, as a file: its name is under a lock.
fn dma_buffer(bytes: u64) -> File {
    let device = File::open("/dev/udmabuf").expect("the kernel has no udmabuf");
    // SAFETY: System calls with structures of ours; the descriptors are new and ours.
    unsafe {
        let memory = libc::memfd_create(c"pages".as_ptr(), libc::MFD_ALLOW_SEALING);
        assert!(memory >= 0, "{}", io::Error::last_os_error());
        let memory = File::from_raw_fd(memory);
        memory.set_len(bytes).unwrap();
        assert_eq!(
            libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK),
            0
        );
        let create = UdmabufCreate {
            memfd: memory.as_raw_fd() as u32,
            flags: 0,
            offset: 0,
            size: bytes,
        };
        let buffer = libc::ioctl(device.as_raw_fd(), UDMABUF_CREATE, &raw const create);
        assert!(buffer >= 0, "{}", io::Error::last_os_error());
        File::from_raw_fd(buffer)
    }
}

#[test]
fn a_dma_buffer_is_told_by_its_kind() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("faults.arrows");
        let trace = trace.to_str().unwrap();
        let own = std::process::id().to_string();
        let recorder = Recorder::start(&["record", "--pid", &own, "-o", trace]);
        let page_size = guest::page_size();
        let buffer = dma_buffer(4 * page_size as u64);
        // SAFETY: A new mapping at an address of the kernel's choice, touched within its length.
        unsafe {
            let memory = libc::mmap(
                ptr::null_mut(),
                4 * page_size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                buffer.as_raw_fd(),
                0,
            );
            assert_ne!(memory, libc::MAP_FAILED, "{}", io::Error::last_os_error());
            for page in 0..4 {
                memory.cast::<u8>().add(page * page_size).write_volatile(1);
            }
            libc::munmap(memory, 4 * page_size);
        }
        recorder.end();
        let text = tool::export(trace, "csv", &[]);
        let count = text
            .lines()
            .filter(|line| line.contains(",/dmabuf:,"))
            .count();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(count >= 1, "{maps}\n{text}");
    });
}
