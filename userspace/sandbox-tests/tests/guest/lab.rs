// SPDX-License-Identifier: GPL-2.0-only

//! Linux's ways of moving bytes: what docs/io-lab.md says of them, on a file system with a disk.

use std::{fs, path::Path, process::Command};

use sandbox_tests::{
    guest, module, program,
    setting::{self, Setting},
    tool,
};

const MIB: u64 = 2;
const PAGES: u64 = MIB * 256;
/// Programs differ by some faults from run to run.
const SOME: u64 = 16;

/// A disk in memory with a file system, until the guest ends.
struct Disk {
    folder: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}");
}

impl Disk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        run("modprobe", &["brd", "rd_nr=1", "rd_size=65536"]);
        run("mkfs.ext4", &["-q", "-F", "/dev/ram0"]);
        let at = folder.path().to_str().unwrap();
        run("mount", &["/dev/ram0", at]);
        let lab = program::find("fault-lab");
        let mib = MIB.to_string();
        let arguments = ["--prepare", "--folder", at, "--mib", &mib];
        run(lab.to_str().unwrap(), &arguments);
        Self { folder }
    }

    /// What a way costs more than the program itself, with the file on the disk or in memory.
    fn more(&self, way: &str, is_cold: bool) -> Totals {
        self.totals(way, is_cold)
            .minus(self.totals("nothing", is_cold))
    }

    fn totals(&self, way: &str, is_cold: bool) -> Totals {
        let at = self.folder.path();
        let _ = fs::remove_file(at.join("lab-to"));
        run("sync", &[]);
        let from = at.join("lab-from");
        let lab = program::find("fault-lab");
        let mib = MIB.to_string();
        let options = ["--folder", at.to_str().unwrap(), "--mib", &mib];
        if is_cold {
            fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
            // The program itself stays in memory.
            run(
                lab.to_str().unwrap(),
                &[&["nothing"], &options[..]].concat(),
            );
        } else {
            fs::read(&from).unwrap();
        }
        let trace = Path::new("/tmp").join("lab.arrows");
        let trace = trace.to_str().unwrap();
        let record = [
            "record",
            "--latency",
            "-o",
            trace,
            "--",
            lab.to_str().unwrap(),
            way,
        ];
        tool::run(&[&record[..], &options].concat(), 0);
        let said = tool::run(&["report", "--json", trace], 0);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["verdict"]["outcome"], "complete", "{way}");
        let number = |name: &str| said["totals"][name].as_u64().unwrap();
        Totals {
            faults: number("faults"),
            major: number("major"),
            by_gup: number("by_gup"),
            threads: number("threads"),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The next test's folder is another one.
        run("umount", &[self.folder.path().to_str().unwrap()]);
        run("rmmod", &["brd"]);
    }
}

#[derive(Clone, Copy, Debug)]
struct Totals {
    faults: u64,
    major: u64,
    by_gup: u64,
    threads: u64,
}

impl Totals {
    fn minus(self, base: Self) -> Self {
        Self {
            faults: self.faults.saturating_sub(base.faults),
            major: self.major.saturating_sub(base.major),
            by_gup: self.by_gup.saturating_sub(base.by_gup),
            threads: self.threads,
        }
    }
}

#[test]
fn each_way_of_moving_bytes_faults_as_its_lesson_says() {
    guest::test(|_| {
        let _module = module::load_idle();
        // Huge pages for those who ask for them.
        let enabled = "/sys/kernel/mm/transparent_hugepage/enabled";
        let _huge_pages = Setting::choose(enabled, "madvise");
        let disk = Disk::mount();
        let warm = |way| disk.more(way, false);
        let cold = |way| disk.more(way, true);

        // One buffer faults once; memory as long as the file faults all over, in the kernel.
        assert!(warm("read").faults <= 2 * SOME, "{:?}", warm("read"));
        assert!(warm("read-whole").faults >= PAGES);
        // What is read ahead does not fault, unless the order is said to be random.
        let (normal, random) = (cold("madvise-normal"), cold("madvise-random"));
        assert!(
            normal.major <= SOME && random.major >= PAGES,
            "{normal:?} {random:?}"
        );
        // All at once, within one call.
        let populated = warm("madvise-populate-read");
        assert!(
            populated.faults.saturating_sub(populated.by_gup) <= SOME,
            "{populated:?}"
        );
        let (locked, on_fault) = (warm("mlock"), warm("mlock-onfault"));
        assert!(
            locked.by_gup >= PAGES && on_fault.faults <= 3 * SOME,
            "{locked:?} {on_fault:?}"
        );
        // Pages that are given to a disk or a pipe are pinned.
        assert!(cold("direct-read-whole").by_gup >= PAGES);
        assert!(warm("vmsplice").by_gup >= PAGES);
        assert!(cold("io-uring-registered").by_gup <= 128 + SOME);
        // The kernel makes a worker in the process, of which no fork is told.
        assert!(warm("io-uring-madvise").faults < PAGES);
        // Within the kernel nothing of the program is touched.
        for way in ["splice", "sendfile", "copy-file-range"] {
            assert!(warm(way).faults <= SOME, "{way}: {:?}", warm(way));
        }
        // What has data is read before it is written.
        let over = warm("mmap-overwrite");
        assert!(over.major > 0, "{over:?}");
        assert!(warm("posix-aio").threads > 1);
        assert_eq!(warm("linux-aio").threads, 1);
        if !setting::is_realtime() {
            assert!(warm("huge-pages").faults + PAGES / 2 < warm("huge-pages-not").faults);
        }
        // Each page that is written after a fork faults: in the child as a copy, in the parent as its own again.
        assert!(warm("fork-write").faults >= 3 * PAGES);
        assert!(warm("fork-exec").faults >= 2 * PAGES);
        assert!(warm("spawn").faults < 2 * PAGES);
    });
}
