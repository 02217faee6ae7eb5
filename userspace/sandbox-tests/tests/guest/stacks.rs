// SPDX-License-Identifier: GPL-2.0-only

//! The callers of recorded faults: known by construction, and those that perf finds on the same run.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use sandbox_tests::{
    compiler::compile,
    guest, module, program,
    tool::{self, command as tool_command},
};
use serde_json::Value;

/// What makes a program whose callers frame pointers find. Where they are not all that there is, the compilers' own ways.
const FRAMES: &[&str] = if module::STACKS_CAN_BE_COPIED {
    &["-O2"]
} else {
    &[
        "-O2",
        "-fno-omit-frame-pointer",
        "-mno-omit-leaf-frame-pointer",
    ]
};

/// How stacks are recorded on this processor, as `--call-graph` takes it.
const WAYS: &[&str] = if module::STACKS_CAN_BE_COPIED {
    &["fp", "dwarf,8192", "dwarf,8", "dwarf,32768"]
} else {
    &["fp", "fp,1", "fp,8"]
};

/// Compiles a program that calls `grow` before its other functions: that touches what is below on the stack, so that no call
/// grows it later. Such a fault would be one more of whatever function reaches a new page, and where pages begin differs from
/// run to run.
fn compile_with_grow(folder: &Path, name: &str, source: &str, options: &[&str]) -> PathBuf {
    const GROW: &str = r#"
        __attribute__((noinline)) void grow(void) {
            volatile char room[128 << 10];
            for (int at = sizeof room - 1; at >= 0; at -= 1024)
                room[at] = 1;
        }
    "#;
    compile(folder, name, &[GROW, source].concat(), options)
}

/// Touches fresh pages below three functions that the compiler must not merge, then recurses deeply, in the
/// first thread and in another, and below a signal.
const CALLS: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define KEEP asm volatile("" ::: "memory")

static long page_size;

static char *fresh(size_t pages) {
    page_size = sysconf(_SC_PAGESIZE);
    return mmap(0, pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

NOINLINE void inner(char *page, int pages) {
    for (int n = 0; n < pages; n++)
        page[n * page_size] = 1;
    KEEP;
}
NOINLINE void middle(int pages) {
    inner(fresh(pages), pages);
    KEEP;
}
NOINLINE void outer(void) {
    for (int n = 0; n < 10; n++)
        middle(20);
    KEEP;
}
NOINLINE int recurse(int depth) {
    volatile char room[256];
    room[0] = depth;
    if (depth == 0)
        middle(30);
    else
        recurse(depth - 1);
    KEEP;
    return room[0];
}
NOINLINE void on_signal(int signal) {
    middle(40);
    KEEP;
}
NOINLINE void *in_thread(void *unused) {
    middle(50);
    KEEP;
    return 0;
}

int main(int count, char **arguments) {
    grow();
    if (count > 1) {
        puts("ready");
        fflush(stdout);
        getchar();
    }
    outer();
    recurse(100);
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    pthread_t thread;
    pthread_create(&thread, 0, in_thread, 0);
    pthread_join(thread, 0);
    return 0;
}
"#;

/// Records a program; the trace.
#[track_caller]
fn record(folder: &Path, how: &[&str], program: &Path) -> String {
    let trace = folder.join("faults.arrows").to_str().unwrap().to_owned();
    let _ = fs::remove_file(&trace);
    let output = tool_command(&["record", "-o", &trace])
        .args(how)
        .arg("--")
        .arg(program)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("lost: 0 "), "{said}");
    trace
}

/// Faults by their callers, the nearest last, without the names of process and thread.
#[track_caller]
fn folded(trace: &str) -> BTreeMap<String, u64> {
    let text = tool::export(trace, "folded", &[]);
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        let stack = stack.splitn(3, ';').nth(2).unwrap();
        *found.entry(stack.to_owned()).or_default() += count.parse::<u64>().unwrap();
    }
    found
}

/// Faults of stacks that end so.
fn ending(found: &BTreeMap<String, u64>, end: &str) -> Vec<(String, u64)> {
    let found = found.iter().filter(|(stack, _)| stack.ends_with(end));
    found
        .map(|(stack, &count)| (stack.clone(), count))
        .collect()
}

#[test]
fn callers_are_those_that_the_program_has() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let program = compile_with_grow(folder, "calls.c", CALLS, FRAMES);
        let found = folded(&record(folder, &["-g"], &program));
        // From where the program begins.
        let [(stack, 200)] = &ending(&found, ";main;outer;middle;inner")[..] else {
            panic!("{found:#?}")
        };
        assert!(stack.starts_with("_start;"), "{stack}");
        let recursion = format!(";main{};middle;inner", ";recurse".repeat(101));
        let [(stack, 30)] = &ending(&found, ";recurse;recurse;middle;inner")[..] else {
            panic!("{found:#?}")
        };
        if module::STACKS_CAN_BE_COPIED {
            // Longer than what is copied: the nearest callers are there, and it is said that others are not.
            assert!(stack.starts_with("[cut off];recurse;"), "{stack}");
            assert!(
                (20..35).contains(&stack.matches("recurse").count()),
                "{stack}"
            );
        } else {
            assert!(stack.starts_with("_start;"), "{stack}");
            assert!(stack.ends_with(&recursion), "{stack}");
        }
        // Through the frame that the kernel made.
        let [(stack, 40)] = &ending(&found, ";on_signal;middle;inner")[..] else {
            panic!("{found:#?}")
        };
        assert!(
            stack.starts_with("_start;") && stack.contains(";main;"),
            "{stack}"
        );
        let [(stack, 50)] = &ending(&found, ";in_thread;middle;inner")[..] else {
            panic!("{found:#?}")
        };
        assert!(
            !stack.contains("main") && !stack.contains("[cut off]"),
            "{stack}"
        );
        if !module::STACKS_CAN_BE_COPIED {
            return;
        }
        // More of each stack: none is cut off.
        let found = folded(&record(folder, &["--call-graph", "dwarf,32768"], &program));
        let [(stack, 30)] = &ending(&found, &recursion)[..] else {
            panic!("{found:#?}")
        };
        assert!(stack.starts_with("_start;"), "{stack}");
    });
}

#[cfg(not(target_arch = "x86_64"))]
#[test]
fn copies_of_stacks_are_refused_where_they_do_not_suffice() {
    guest::test(|log| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        for how in ["dwarf", "auto"] {
            let file = file.to_str().unwrap();
            let record = ["record", "--call-graph", how, "-o", file, "--", "true"];
            let said = tool::run(&record, 2);
            assert!(said.contains("use fp or fp,FRAMES"), "{said}");
        }
        assert!(!file.exists());
        // The module by itself, too.
        log.news();
        use fault_tracer_uapi as uapi;
        let session = sandbox_tests::device::Session::open().unwrap();
        let mut config = uapi::Config {
            ring_bytes: 1 << 20,
            flags: uapi::session_flag::SIDEBAND | uapi::session_flag::STACK_COPY,
            stack: 8192,
            ..uapi::Config::default()
        };
        let error = session.with(uapi::FT_IOC_CONFIGURE, &mut config);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        let said = log.news().join("\n");
        assert!(said.contains("frame pointers alone"), "{said}");
    });
}

#[test]
fn callers_of_processes_that_were_there_before() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let program = compile_with_grow(folder, "calls.c", CALLS, FRAMES);
        let trace = folder.join("faults.arrows");
        let trace = trace.to_str().unwrap();
        let mut waiting = Command::new(program)
            .arg("wait")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // All that it needs is mapped then.
        let mut ready = String::new();
        let mut said = BufReader::new(waiting.stdout.take().unwrap());
        said.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let mut recorder = tool_command(&["record", "-a", "-g", "-o", trace])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !tool::run(&["status"], 0).contains("all processes") {
            thread::sleep(Duration::from_millis(50));
        }
        // Its end is that of its input.
        drop(waiting.stdin.take());
        assert!(waiting.wait().unwrap().success());
        // SAFETY: A system call without pointers, on a child that has not been waited for.
        unsafe { libc::kill(recorder.id() as i32, libc::SIGINT) };
        assert!(recorder.wait().unwrap().success());
        let found = folded(trace);
        let [(stack, 200)] = &ending(&found, ";main;outer;middle;inner")[..] else {
            panic!("{found:#?}")
        };
        // Its libraries do not fault any more.
        assert!(stack.starts_with("_start;"), "{stack}");
    });
}

#[test]
fn small_rings_lose_stacks_and_count_all_faults() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("faults.arrows");
        let trace = trace.to_str().unwrap();
        let program = program::find("ft-workload");
        for mode in ["discard", "overwrite"] {
            let how = [
                "record",
                "-g",
                "--mode",
                mode,
                "--ring-size",
                "64K",
                "-o",
                trace,
                "--",
            ];
            let command = [program.to_str().unwrap(), "touch", "--pages", "20000"];
            // The tool holds the account against what it has written.
            let said = tool::run(&[&how[..], &command].concat(), 0);
            let rows = tool::export(trace, "jsonl", &["--events"]);
            let (mut faults, mut stacks, mut frames) = (0, 0, 1);
            for line in rows.lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                match row["event"].as_str().unwrap() {
                    "frame" => {
                        frames += 1;
                        assert_eq!(row["stack"], frames);
                        assert!(row["caller"].as_u64().unwrap() < frames, "{row}");
                    }
                    "fault" => {
                        faults += 1;
                        if let Some(stack) = row["stack"].as_u64() {
                            stacks += 1;
                            assert!(stack <= frames, "{row}");
                        }
                    }
                    _ => {}
                }
            }
            // Addresses alone are few: they have room wherever a fault has.
            let some_have_none = stacks < faults || !module::STACKS_CAN_BE_COPIED;
            assert!(0 < stacks && some_have_none, "{stacks} of {faults}: {said}");
        }
    });
}

/// Faults while the stack and frame pointers point to memory that there is in part, to none, to the kernel's, and to addresses
/// that no processor has.
const ODD_POINTERS: &str = r#"
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static void touch(char *page, char *next, unsigned long pointer) {
#ifdef __x86_64__
    asm volatile("xchg %%rsp, %1\n movb $1, (%0)\n xchg %%rsp, %1" : "+r"(page), "+r"(pointer) : : "memory");
    asm volatile("xchg %%rbp, %1\n movb $1, (%0)\n xchg %%rbp, %1" : "+r"(next), "+r"(pointer) : : "memory");
#else
    asm volatile("mov x9, sp\n mov sp, %1\n strb wzr, [%0]\n mov sp, x9" : : "r"(page), "r"(pointer) : "x9", "memory");
    asm volatile("mov x9, x29\n mov x29, %1\n strb wzr, [%0]\n mov x29, x9" : : "r"(next), "r"(pointer) : "x9", "memory");
#endif
}

int main(void) {
    long size = sysconf(_SC_PAGESIZE);
    char *part = mmap(0, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    part[0] = part[size] = 1;
    mprotect(part + size, size, PROT_NONE);
    char *unused = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(unused, size);
    unsigned long there = (unsigned long)part, none = (unsigned long)unused;
    unsigned long pointers[] = {
        0, 1, 8, there, there + 1, there + size - 8, there + size - 16, there + size - 20, there + size, none, none - 8,
        0x7fffffffe000, 0x7fffffffeff8, 0x7fffffffefff, 0x7ffffffff000, 0x7ffffffffff8, 0x7fffffffffff, 0x800000000000,
        0xffffffffffffe0, 0x8000000000000000, 0xffff7ffffffffff8, 0xffff800000000000, 0xffff888000000000, 0xffffffff81000000,
        0xffffffffff600000, 0xffff000000000000, 0xffffffc000000000, 0xfffffffffffffff0, 0xfffffffffffffff8, 0xffffffffffffffff,
    };
    int count = sizeof pointers / sizeof *pointers;
    char *fresh = mmap(0, 2 * count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(fresh, 2 * count * size, MADV_NOHUGEPAGE);
    for (int n = 0; n < count; n++)
        touch(fresh + 2 * n * size, fresh + (2 * n + 1) * size, pointers[n]);
    printf("%lu %d\n", (unsigned long)fresh, 2 * count);
    return 0;
}
"#;

#[test]
fn whatever_the_stack_pointer_is_the_fault_is_recorded() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let program = compile(folder.path(), "odd.c", ODD_POINTERS, &["-O2"]);
        for how in WAYS {
            let trace = folder.path().join("odd.arrows");
            let trace = trace.to_str().unwrap();
            let record = ["record", "-q", "--call-graph", how, "-o", trace, "--"];
            let said = tool::run(&[&record[..], &[program.to_str().unwrap()]].concat(), 0);
            let (start, pages) = said.trim().split_once(' ').unwrap();
            let (start, pages): (u64, u64) = (start.parse().unwrap(), pages.parse().unwrap());
            tool::run(&["verify", trace], 0);
            let rows = tool::columns(trace, ["address", "stack"], &[]);
            let of_pages: Vec<_> = rows
                .iter()
                .filter_map(|[address, stack]| {
                    let address = u64::from_str_radix(address.trim_start_matches("0x"), 16);
                    let page = address.unwrap().wrapping_sub(start) / guest::page_size() as u64;
                    (page < pages).then_some((page, stack))
                })
                .collect();
            let found: Vec<_> = of_pages.iter().map(|(page, _)| *page).collect();
            assert_eq!(found, Vec::from_iter(0..pages), "{how}");
            assert!(of_pages.iter().all(|(_, stack)| !stack.is_empty()), "{how}");
        }
    });
}

/// perf finds no callers in this program: what it prints behind a frame is no code.
#[test]
fn callers_in_threads_of_a_rust_program() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("faults.arrows");
        let trace = trace.to_str().unwrap();
        let program = program::find("ft-workload");
        let program = [program.to_str().unwrap(), "touch", "--threads", "2"];
        tool::run(
            &[&["record", "-g", "-o", trace, "--"][..], &program].concat(),
            0,
        );
        let found = folded(trace);
        let [(stack, 200)] = &ending(&found, ";ft_workload::touch::touch")[..] else {
            panic!("{found:#?}")
        };
        if module::STACKS_CAN_BE_COPIED {
            assert!(stack.contains("thread_start"), "{stack}");
            assert!(!stack.contains("[cut off]"), "{stack}");
        }
    });
}

#[test]
fn frame_pointers_find_the_same_callers() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // Whatever is asked for, optimizers leave frames out of functions that call none.
        let options = [FRAMES, &["-O0", "-fno-omit-frame-pointer"]].concat();
        let program = compile_with_grow(folder, "calls.c", CALLS, &options);
        for hook in ["kprobe", "ftrace"] {
            let how = ["--call-graph", "fp", "--hook", hook];
            let found = folded(&record(folder, &how, &program));
            let counts = |end: &str| ending(&found, end).iter().map(|(_, count)| count).sum();
            let all: [u64; 4] = ["outer", "recurse", "on_signal", "in_thread"]
                .map(|name| counts(&format!(";{name};middle;inner")));
            assert_eq!(all, [200, 30, 40, 50], "{found:#?}");
        }
        for frames in [6, 8] {
            let how = format!("fp,{frames}");
            let found = folded(&record(folder, &["--call-graph", &how], &program));
            let cut = format!("[cut off]{};middle;inner", ";recurse".repeat(frames - 1));
            assert_eq!(found.get(&cut), Some(&30), "{found:#?}");
        }
    });
}

/// In the assembly of x86-64. Without a C library, so that the frame pointers lead to the outermost frame. Faults in a function without a frame, and
/// below two that do without a pointer to theirs: one is small, and the other is larger than the top that is copied.
#[cfg(target_arch = "x86_64")]
const FRAMED: &str = r#"
#define NOINLINE __attribute__((noinline))
static char pages[300 << 12] __attribute__((aligned(4096)));
static int used;

void bare_leaf(char *page);
void bare_small(int pages);
void bare_large(int pages);

asm(".text\n"
    ".type bare_leaf, @function\nbare_leaf:\n .cfi_startproc\n movb $1, (%rdi)\n ret\n .cfi_endproc\n"
    ".size bare_leaf, . - bare_leaf\n"
    ".type bare_small, @function\nbare_small:\n .cfi_startproc\n sub $24, %rsp\n .cfi_adjust_cfa_offset 24\n"
    " call inner\n add $24, %rsp\n .cfi_adjust_cfa_offset -24\n ret\n .cfi_endproc\n"
    ".size bare_small, . - bare_small\n"
    ".type bare_large, @function\nbare_large:\n .cfi_startproc\n sub $1016, %rsp\n .cfi_adjust_cfa_offset 1016\n"
    " call inner\n add $1016, %rsp\n .cfi_adjust_cfa_offset -1016\n ret\n .cfi_endproc\n"
    ".size bare_large, . - bare_large\n"
    ".globl _start\n.type _start, @function\n_start:\n .cfi_startproc\n .cfi_undefined %rip\n xor %ebp, %ebp\n"
    " call begin\n hlt\n .cfi_endproc\n.size _start, . - _start\n");

NOINLINE void inner(int count) {
    for (int n = 0; n < count; n++)
        pages[used++ << 12] = 1;
}
NOINLINE void outer(void) {
    inner(100);
    for (int n = 0; n < 50; n++)
        bare_leaf(pages + (used++ << 12));
    bare_small(40);
    bare_large(30);
}
NOINLINE void recurse(int depth) {
    if (depth == 0)
        inner(20);
    else
        recurse(depth - 1);
}
NOINLINE void begin(void) {
    used = 0;
    grow();
    outer();
    recurse(50);
    recurse(300);
    asm volatile("syscall" : : "a"(231), "D"(0));
}
"#;

#[cfg(target_arch = "x86_64")]
#[test]
fn frame_pointers_are_taken_where_they_lead_to_the_outermost_frame() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let options = [
            "-O0",
            "-fno-omit-frame-pointer",
            "-nostdlib",
            "-static",
            "-fno-pie",
        ];
        let program = compile_with_grow(folder, "framed.c", FRAMED, &options);
        let expected =
            |recursions: usize| format!("_start;begin{};inner", ";recurse".repeat(recursions));
        for hook in ["kprobe", "ftrace"] {
            let how = |how| ["--call-graph", how, "--hook", hook];
            let by_copies = folded(&record(folder, &how("dwarf,32768"), &program));
            let by_frames = folded(&record(folder, &how("auto,32768"), &program));
            for found in [&by_copies, &by_frames] {
                let count = |stack: &str| found.get(stack).copied();
                assert_eq!(count("_start;begin;outer;inner"), Some(100), "{found:#?}");
                assert_eq!(
                    count("_start;begin;outer;bare_leaf"),
                    Some(50),
                    "{found:#?}"
                );
                assert_eq!(
                    count("_start;begin;outer;bare_small;inner"),
                    Some(40),
                    "{found:#?}"
                );
                // More frames than a chain has are found in the copy.
                for recursions in [51, 301] {
                    assert_eq!(count(&expected(recursions)), Some(20), "{found:#?}");
                }
            }
            // A caller between the frames is missed, and that is said: a copy was not needed.
            let large = "bare_large;inner";
            assert_eq!(
                ending(&by_copies, large),
                [(format!("_start;begin;outer;{large}"), 30)]
            );
            assert_eq!(
                ending(&by_frames, large),
                [(format!("[cut off];{large}"), 30)]
            );
            // No room for the chain is no reason to go without a stack.
            let by_little = folded(&record(folder, &how("auto,64"), &program));
            let found = ending(&by_little, "inner");
            assert_eq!(
                found.iter().map(|(_, count)| count).sum::<u64>(),
                210,
                "{by_little:#?}"
            );
        }
        // Debian's C library has none: copies, as if they had been asked for.
        let program = compile_with_grow(folder, "calls.c", CALLS, &["-O2"]);
        let found = folded(&record(folder, &["--call-graph", "auto,32768"], &program));
        let recursion = format!(";main{};middle;inner", ";recurse".repeat(101));
        for (end, count) in [
            (";main;outer;middle;inner", 200),
            (&recursion, 30),
            (";on_signal;middle;inner", 40),
            (";in_thread;middle;inner", 50),
        ] {
            let [(stack, of_it)] = &ending(&found, end)[..] else {
                panic!("{found:#?}")
            };
            assert_eq!(*of_it, count, "{found:#?}");
            assert!(!stack.contains("[cut off]"), "{stack}");
        }
    });
}

/// What `tests/guest/build-go-program` has built.
const GO_PROGRAM: &str = if cfg!(target_arch = "x86_64") {
    "/checkout/build/go/amd64/calls"
} else {
    "/checkout/build/go/arm64/calls"
};

/// How its stacks are recorded.
const GO_WAYS: &[&str] = if module::STACKS_CAN_BE_COPIED {
    &["dwarf,32768", "auto,32768", "fp"]
} else {
    &["fp"]
};

#[test]
fn callers_in_goroutines() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        for how in GO_WAYS {
            let trace = record(folder.path(), &["--call-graph", how], Path::new(GO_PROGRAM));
            let found = folded(&trace);
            for (end, count) in [
                (
                    "runtime.main;main.main;main.outer;main.middle;main.inner".to_owned(),
                    200,
                ),
                (
                    format!(
                        "main.main{};main.middle;main.inner",
                        ";main.recurse".repeat(51)
                    ),
                    30,
                ),
                (
                    format!(
                        "main.apart{};main.middle;main.inner",
                        ";main.recurse".repeat(61)
                    ),
                    30,
                ),
            ] {
                let [(stack, of_it)] = &ending(&found, &end)[..] else {
                    panic!("{how}: {end}: {found:#?}")
                };
                assert_eq!(*of_it, count, "{how}: {found:#?}");
                assert!(stack.starts_with("runtime.goexit"), "{how}: {stack}");
            }
        }
    });
}
/// How perf records callers, where both record the same.
const PERF_WAY: &str = if module::STACKS_CAN_BE_COPIED {
    "dwarf,8192"
} else {
    "fp"
};

/// The chains of addresses of faults in a text of `perf script`, and how often each was met; those alone that have a
/// symbol among them. perf prints a byte of the call, `behind` 0, and not where it returns to, `behind` 1.
fn chains(text: &str, symbol: &str, behind: u64) -> BTreeMap<Vec<u64>, u64> {
    let mut found = BTreeMap::new();
    for sample in text.split("\n\n") {
        let frames = sample.lines().skip(1).filter_map(|line| {
            let (address, rest) = line.trim().split_once(' ')?;
            Some((u64::from_str_radix(address, 16).ok()?, rest))
        });
        // The kernel's own frames, which perf has, and what became of the fault, which we have.
        let frames: Vec<_> = frames
            .filter(|(address, rest)| address >> 48 == 0 && !rest.ends_with("([page-faults])"))
            .collect();
        if frames.iter().any(|(_, rest)| rest.starts_with(symbol)) {
            let addresses = frames.iter().enumerate();
            let chain = addresses.map(|(n, (address, _))| address - behind * u64::from(n != 0));
            let chain: Vec<_> = chain.collect();
            *found.entry(chain).or_default() += 1;
        }
    }
    found
}

#[test]
fn perf_finds_the_same_callers_on_the_same_run() {
    /// Faults below frames that an exception leaves, and while it looks for who catches it.
    const THROWS: &str = r#"
        #include <stdexcept>
        #include <string>
        #include <vector>
        __attribute__((noinline)) void thrower(std::vector<std::string> &all, int depth) {
            all.emplace_back(20000, 'x');
            if (depth == 0)
                throw std::runtime_error(all.back());
            thrower(all, depth - 1);
        }
        __attribute__((noinline)) int catcher(int times) {
            int caught = 0;
            for (int n = 0; n < times; n++) {
                std::vector<std::string> all;
                try {
                    thrower(all, 20 + 10 * n);
                } catch (const std::exception &error) {
                    caught += std::string(error.what()).size() == 20000;
                }
            }
            return caught;
        }
        int main() { return catcher(5) == 5 ? 0 : 1; }
    "#;
    const PYTHON: &str =
        "def deep(n):\n  return deep(n - 1) if n else [bytearray(1 << 16) for _ in range(20)]\n\
        for _ in range(3): deep(20)\n";
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let calls = compile_with_grow(folder, "calls.c", CALLS, FRAMES);
        let calls = calls.to_str().unwrap();
        let throws = compile(folder, "throws.cc", THROWS, FRAMES);
        let throws = throws.to_str().unwrap();
        let stripped = [FRAMES, &["-s"]].concat();
        let stripped = compile_with_grow(folder, "stripped.c", CALLS, &stripped);
        let stripped = stripped.to_str().unwrap();
        let cases = [
            (&[calls][..], "main"),
            (&[stripped], ""),
            (&[throws], "main"),
            (&["python3", "-S", "-c", PYTHON], ""),
            (&[GO_PROGRAM], "main."),
        ];
        for (program, symbol) in cases {
            let data = folder.join("perf.data");
            let trace = folder.join("faults.arrows");
            let trace = trace.to_str().unwrap();
            let output = tool_command(&["record", "-g", "-o", trace, "--"])
                .args(["perf", "record", "-q", "-e", "page-faults", "-c", "1"])
                .args(["--call-graph", PERF_WAY, "-m", "128M", "-o"])
                .arg(&data)
                .arg("--")
                .args(program)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && said.contains("lost: 0 "),
                "{said}"
            );
            let theirs = Command::new("perf")
                .args([
                    "script",
                    "--show-lost-events",
                    // A frame is one call: those that a compiler has put into another are not on the stack.
                    "--no-inline",
                    "-F",
                    "comm,pid,time,event,ip,sym,symoff,dso",
                    "-i",
                ])
                .arg(&data)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let theirs = String::from_utf8_lossy(&theirs.stdout);
            assert!(!theirs.contains("LOST"), "perf has lost some: {theirs}");
            let theirs = chains(&theirs, symbol, 0);
            // By frame pointers perf prints where a call returns to, too.
            let behind = u64::from(module::STACKS_CAN_BE_COPIED);
            let ours = chains(&tool::export(trace, "perf-script", &[]), symbol, behind);
            let count = |of: &BTreeMap<_, u64>| of.values().sum::<u64>();
            let least = 150 * 4096 / guest::page_size() as u64;
            assert!(count(&theirs) > least, "{theirs:#x?}");
            // We have the faults that no exception raised, too.
            let (mut differ, mut guessed) = (Vec::new(), 0);
            for (chain, &count) in &theirs {
                if ours.get(chain).is_some_and(|&found| found >= count) {
                    continue;
                }
                // The caller of a function that has no frame, which perf finds by the link register.
                let mut without = chain.clone();
                without.drain(1..2.min(without.len()));
                if !module::STACKS_CAN_BE_COPIED && ours.contains_key(&without) {
                    continue;
                }
                // The start files of programs and libraries (_fini, __do_global_dtors_aux) do not say how their code is
                // left: perf goes on by the frame pointer, and we say that the callers are not known.
                let known = (1..chain.len()).any(|length| ours.contains_key(&chain[..length]));
                if known && guessed < 8 {
                    guessed += 1;
                } else {
                    differ.push((chain, count));
                }
            }
            assert!(
                differ.is_empty(),
                "{} of {} chains of perf are not among ours: {differ:#x?}; ours: {ours:#x?}",
                differ.len(),
                theirs.len()
            );
        }
    });
}
