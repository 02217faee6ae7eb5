// SPDX-License-Identifier: GPL-2.0-only

//! Linux's ways of moving bytes: what docs/io-lab.md says of them, on a file system with a disk.

use std::{fs, process::Command};

use sandbox_tests::{
    guest, module, program,
    setting::{self, Setting},
    tool,
};

const MIB: u64 = 2;
const PAGES: u64 = MIB * 256;
/// Programs differ by some faults from run to run.
const SOME: u64 = 16;
/// Every page faulted, less what the program itself may differ by.
const ALL: u64 = PAGES - SOME;

/// A disk in memory with a file system, until the guest ends.
struct Disk {
    folder: tempfile::TempDir,
    /// How many MiB the ways move.
    mib: String,
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}");
}

impl Disk {
    fn mount(mib: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        run("modprobe", &["brd", "rd_nr=1", "rd_size=65536"]);
        run("mkfs.ext4", &["-q", "-F", "/dev/ram0"]);
        let at = folder.path().to_str().unwrap();
        run("mount", &["/dev/ram0", at]);
        let lab = program::find("fault-lab");
        let mib = mib.to_string();
        let arguments = ["--prepare", "--folder", at, "--mib", &mib];
        run(lab.to_str().unwrap(), &arguments);
        Self { folder, mib }
    }

    /// What a way costs more than the program itself, with the file on the disk or in memory.
    fn more(&self, way: &'static str, is_cold: bool) -> Totals {
        let base = self.totals("nothing", is_cold);
        self.totals(way, is_cold).minus(base)
    }

    fn totals(&self, way: &'static str, is_cold: bool) -> Totals {
        let trace = self.trace(way, is_cold);
        let said = tool::run(&["report", "--json", &trace], 0);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["verdict"]["outcome"], "complete", "{way}");
        let number = |name: &str| said["totals"][name].as_u64().unwrap();
        Totals {
            way,
            faults: number("faults"),
            major: number("major"),
            by_gup: number("by_gup"),
            threads: number("threads"),
        }
    }

    /// The rules by which there is advice on it.
    fn rules(&self, way: &str, is_cold: bool) -> Vec<String> {
        let said = tool::run(&["advise", "--json", &self.trace(way, is_cold)], 0);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let advice = said["advice"].as_array().unwrap().iter();
        let rules = advice.map(|each| each["rule"].as_str().unwrap().to_owned());
        rules.collect()
    }

    /// The trace of a run.
    fn trace(&self, way: &str, is_cold: bool) -> String {
        let at = self.folder.path();
        let from = at.join("lab-from");
        let lab = program::find("fault-lab");
        let options = ["--folder", at.to_str().unwrap(), "--mib", &self.mib];
        // Once without being traced: the program's own pages are in memory then, as its pages near a fault are
        // mapped only if they are.
        let before = if is_cold { "nothing" } else { way };
        let anew = || {
            let _ = fs::remove_file(at.join("lab-to"));
            run("sync", &[]);
        };
        anew();
        if is_cold {
            fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        }
        run(lab.to_str().unwrap(), &[&[before], &options[..]].concat());
        anew();
        if !is_cold {
            fs::read(&from).unwrap();
        }
        let trace = "/tmp/lab.arrows";
        let lab = lab.to_str().unwrap();
        let record = ["record", "--latency", "-o", trace, "--", lab, way];
        tool::run(&[&record[..], &options].concat(), 0);
        trace.to_owned()
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
    way: &'static str,
    faults: u64,
    major: u64,
    by_gup: u64,
    threads: u64,
}

impl Totals {
    fn minus(self, base: Self) -> Self {
        Self {
            way: self.way,
            faults: self.faults.saturating_sub(base.faults),
            major: self.major.saturating_sub(base.major),
            by_gup: self.by_gup.saturating_sub(base.by_gup),
            threads: self.threads,
        }
    }
}

fn huge_pages_for_those_who_ask() -> Setting {
    Setting::choose("/sys/kernel/mm/transparent_hugepage/enabled", "madvise")
}

#[track_caller]
fn assert_that(of: Totals, holds: impl FnOnce(Totals) -> bool) {
    assert!(holds(of), "{of:?}");
}

#[test]
fn each_way_of_moving_bytes_faults_as_its_lesson_says() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _huge_pages = huge_pages_for_those_who_ask();
        let disk = Disk::mount(MIB);
        let warm = |way| disk.more(way, false);
        let cold = |way| disk.more(way, true);

        // One buffer faults once; memory as long as the file faults all over, in the kernel.
        assert_that(warm("read"), |read| read.faults <= 2 * SOME);
        assert_that(warm("read-whole"), |read| read.faults >= ALL);
        // What is read ahead does not fault, unless the order is said to be random.
        assert_that(cold("madvise-normal"), |normal| normal.major <= SOME);
        assert_that(cold("madvise-random"), |random| random.major >= PAGES);
        // All at once, within one call.
        assert_that(warm("madvise-populate-read"), |populated| {
            populated.faults.saturating_sub(populated.by_gup) <= SOME
        });
        assert_that(warm("mlock"), |locked| locked.by_gup >= PAGES);
        assert_that(warm("mlock-onfault"), |locked| locked.faults <= 3 * SOME);
        // Pages that are given to a disk or a pipe are pinned.
        assert_that(cold("direct-read-whole"), |read| read.by_gup >= PAGES);
        assert_that(warm("vmsplice"), |splice| splice.by_gup >= PAGES);
        assert_that(cold("io-uring-registered"), |read| {
            read.by_gup <= 128 + SOME
        });
        // The kernel makes a worker in the process, of which no fork is told.
        assert_that(warm("io-uring-madvise"), |advise| advise.faults < PAGES);
        // Within the kernel nothing of the program is touched.
        for way in ["splice", "sendfile", "copy-file-range"] {
            assert_that(warm(way), |within| within.faults <= SOME);
        }
        // What has data is read before it is written.
        assert_that(warm("mmap-overwrite"), |over| over.major > 0);
        assert_that(warm("posix-aio"), |aio| aio.threads > 1);
        assert_that(warm("linux-aio"), |aio| aio.threads == 1);
        if !setting::is_realtime() {
            let without = warm("huge-pages-not").faults;
            assert_that(warm("huge-pages"), |huge| huge.faults + PAGES / 2 < without);
        }
        // Each page that is written after a fork faults: in the child as a copy, in the parent as its own again.
        assert_that(warm("fork-write"), |fork| fork.faults >= 3 * ALL);
        assert_that(warm("fork-exec"), |fork| fork.faults >= 2 * ALL);
        assert_that(warm("spawn"), |spawn| spawn.faults < 2 * PAGES);
    });
}

/// Each rule of `advise` that a way of the lab is an example of is found in it.
#[test]
fn the_ways_that_can_be_mended_get_the_advice() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _huge_pages = huge_pages_for_those_who_ask();
        // So many whole huge pages that what lies beside them does not count.
        let disk = Disk::mount(4 * MIB);
        let mut examples = vec![
            (
                "madvise-random",
                true,
                &["fault-around", "populate-file", "prefetch"][..],
            ),
            ("malloc-large-fixed", false, &["refault"]),
            ("memory-read-first", false, &["read-then-write"]),
            ("msync", false, &["dirty-again"]),
        ];
        if !setting::is_realtime() {
            examples.push(("huge-pages-not", false, &["huge-pages"]));
        }
        for (way, is_cold, rules) in examples {
            let found = disk.rules(way, is_cold);
            for rule in rules {
                assert!(
                    found.iter().any(|found| found == rule),
                    "{way}: {rule} is not in {found:?}"
                );
            }
        }
        // What does it as it should be done gets none of this advice.
        for way in ["read", "sendfile", "msync-async", "memory"] {
            let found = disk.rules(way, false);
            for rule in ["refault", "read-then-write", "dirty-again"] {
                assert!(!found.iter().any(|found| found == rule), "{way}: {found:?}");
            }
        }
    });
}
