// SPDX-License-Identifier: GPL-2.0-only

//! How many pages fault-around maps, held against what the page table has before and after each fault.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use sandbox_tests::{guest, module, setting::Setting, trace::Trace};

const PAGE: u64 = 4096;
const WINDOW: u64 = 64 << 10;
/// Of the file that is read.
const PAGES: u64 = 1536;
/// Where the mapping begins in it: not where a window does.
const SKIPPED: u64 = 3;

/// Maps a file and touches pages here and there, each seventh by writing. Of each it says how many pages are present more
/// than before, as `/proc/self/pagemap` has it; and at last what `/proc/self/smaps` has.
const PROGRAM: &str = "import ctypes, mmap, os, sys\n\
    path, skipped, said = sys.argv[1], int(sys.argv[2]) * 4096, sys.argv[3]\n\
    fd = os.open(path, os.O_RDONLY)\n\
    bytes = os.fstat(fd).st_size - skipped\n\
    pages = bytes // 4096\n\
    memory = mmap.mmap(fd, bytes, mmap.MAP_PRIVATE, offset=skipped)\n\
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))\n\
    pagemap = os.open('/proc/self/pagemap', os.O_RDONLY)\n\
    bits = sum(1 << 64 * n + 63 for n in range(pages))\n\
    def present():\n\
    \x20   words = os.pread(pagemap, pages * 8, first // 4096 * 8)\n\
    \x20   return (int.from_bytes(words, 'little') & bits).bit_count()\n\
    lines = [f'{first} {present()}']\n\
    before = present()\n\
    for n in range(200):\n\
    \x20   page = (n * 389 + 5) % pages\n\
    \x20   if n % 7 == 6:\n\
    \x20       memory[page * 4096] = 1\n\
    \x20   else:\n\
    \x20       memory[page * 4096]\n\
    \x20   after = present()\n\
    \x20   lines.append(f'{page} {after - before}')\n\
    \x20   before = after\n\
    rss = 0\n\
    inside = False\n\
    for line in open('/proc/self/smaps'):\n\
    \x20   name, *rest = line.split()\n\
    \x20   if '-' in name:\n\
    \x20       low, high = (int(part, 16) for part in name.split('-'))\n\
    \x20       inside = first <= low and high <= first + bytes\n\
    \x20   elif inside and name == 'Rss:':\n\
    \x20       rss += int(rest[0]) // 4\n\
    lines.append(f'{before} {rss}')\n\
    open(said, 'w').write('\\n'.join(lines))\n";

/// What the kernel maps around a fault, in bytes, while this is there.
fn fault_around(bytes: u64) -> Setting {
    Setting::number("/sys/kernel/debug/fault_around_bytes", bytes)
}

/// A read that has mapped pages: how many, and how many the trace says were mapped beside its own.
struct Read {
    page: u64,
    mapped: i64,
    around: Option<u32>,
}

impl Read {
    fn is_right(&self) -> bool {
        self.around.map(i64::from) == Some(self.mapped - 1)
    }
}

impl fmt::Debug for Read {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            page,
            mapped,
            around,
        } = self;
        write!(to, "page {page}: {mapped} more, told {around:?}")
    }
}

/// Touches pages of a file, whose pages are in memory.
fn reads(file: &Path) -> Vec<Read> {
    let folder = tempfile::tempdir().unwrap();
    let [script, said] = ["program.py", "said"].map(|name| folder.path().join(name));
    fs::write(&script, PROGRAM).unwrap();
    let skipped = SKIPPED.to_string();
    let [script, file, place] =
        [&script, file, &said].map(|path: &Path| path.to_str().unwrap().to_owned());
    let trace = Trace::of_command(
        &["--latency"],
        &["python3", &script, &file, &skipped, &place],
    );
    trace.assert_balance();
    let said = fs::read_to_string(said).unwrap();
    // A huge page of a file is taken out of the page table when one of its pages is written to: that is less, not more.
    let numbers: Vec<i64> = said
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    let pairs: Vec<_> = numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let [(first, 0), touches @ .., (present, rss)] = &pairs[..] else {
        panic!("{said}");
    };
    assert_eq!(present, rss, "pagemap and smaps");
    let mut rows = trace.faults();
    let first = *first as u64;
    let end = first + (PAGES - SKIPPED) * PAGE;
    rows.retain(|row| (first..end).contains(&row.address));
    let (found, written): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.access == "read");
    assert!(
        written.iter().all(|row| row.around.is_none()),
        "{written:?}"
    );
    assert!(written.len() >= 20, "{} written", written.len());
    let mut of_pages = found.iter();
    let mut reads = Vec::new();
    for (n, &(page, mapped)) in touches.iter().enumerate() {
        if n % 7 != 6 && mapped != 0 {
            let page = page as u64;
            let row = of_pages.next().unwrap_or_else(|| panic!("page {page}"));
            assert_eq!((row.address - first) / PAGE, page);
            let around = row.around;
            reads.push(Read {
                page,
                mapped,
                around,
            });
        }
    }
    assert!(of_pages.next().is_none(), "faults that map nothing");
    // Each page is that of a read, around one, or of a write where nothing was.
    let of_writes = touches.iter().skip(6).step_by(7).map(|touch| touch.1);
    let sum = reads.iter().map(|read| read.mapped).sum::<i64>() + of_writes.sum::<i64>();
    assert_eq!(sum, *rss);
    reads
}

/// A file of which each page is in memory by itself.
fn small_pages() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, vec![b'x'; (PAGES * PAGE) as usize]).unwrap();
    (folder, file)
}

#[test]
fn as_many_pages_are_around_as_the_page_table_has_more() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (_folder, file) = small_pages();
        for bytes in [WINDOW, WINDOW / 4, PAGE] {
            let _around = fault_around(bytes);
            let reads = reads(&file);
            let wrong: Vec<_> = reads.iter().filter(|read| !read.is_right()).collect();
            assert!(wrong.is_empty(), "{bytes} bytes: {wrong:?}");
            let most = reads.iter().map(|read| read.mapped).max();
            assert_eq!(most, Some((bytes / PAGE) as i64));
            assert!(reads.len() >= 50, "{bytes} bytes: {} reads", reads.len());
        }
    });
}

#[test]
fn more_than_the_usual_is_not_taken_for_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (_folder, file) = small_pages();
        let _around = fault_around(16 * WINDOW);
        let reads = reads(&file);
        let wrong = |read: &&Read| read.around.is_some() && !read.is_right();
        let wrong: Vec<_> = reads.iter().filter(wrong).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(reads.iter().any(|read| read.mapped > 200), "{reads:?}");
    });
}

#[test]
fn whole_folios_are_counted() {
    fn run(program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).status();
        let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(status.success(), "{program} {arguments:?}");
    }

    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        run("modprobe", &["brd", "rd_nr=1", "rd_size=65536"]);
        run("mkfs.ext4", &["-q", "-F", "/dev/ram0"]);
        run("mount", &["/dev/ram0", folder.path().to_str().unwrap()]);
        let file = folder.path().join("file");
        fs::write(&file, vec![b'x'; (PAGES * PAGE) as usize]).unwrap();
        for bytes in [WINDOW, PAGE] {
            let _around = fault_around(bytes);
            let reads = reads(&file);
            let (known, unknown): (Vec<_>, Vec<_>) =
                reads.iter().partition(|read| read.around.is_some());
            let wrong: Vec<_> = known.iter().filter(|read| !read.is_right()).collect();
            assert!(wrong.is_empty(), "{bytes} bytes: {wrong:?}");
            eprintln!("{bytes} bytes: {reads:?}");
            assert!(known.len() > unknown.len(), "{bytes} bytes: {unknown:?}");
        }
        run("umount", &[folder.path().to_str().unwrap()]);
    });
}
