// SPDX-License-Identifier: GPL-2.0-only

//! The answers of `stat`, `report`, `diff`, `advise` and `top` on real programs, checked against what the kernel counts and
//! against programs whose answers are known by construction.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use sandbox_tests::{
    compiler::compile,
    guest, module, program,
    setting::{self, Setting},
    swap,
    tool::{self, run},
};
use serde_json::Value;

/// Transparent huge pages for those alone who ask, while this is there.
fn huge_pages_on_request() -> Setting {
    Setting::choose("/sys/kernel/mm/transparent_hugepage/enabled", "madvise")
}

/// A folder with traces.
struct Traces(tempfile::TempDir);

impl Traces {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Records a command, which must write nothing but what the tool says; returns the file and what both wrote.
    fn record(&self, name: &str, command: &[&str]) -> (String, String) {
        let file = self.0.path().join(name).to_str().unwrap().to_owned();
        let arguments = [&["record", "--latency", "-o", &file, "--"], command].concat();
        let said = run(&arguments, 0);
        (file, said)
    }

    /// As `record`, of a habit of the workload.
    fn habit(&self, habit: &str, options: &[&str]) -> (String, String) {
        let workload = program::find(program::WORKLOAD);
        let workload = workload.to_str().unwrap().to_owned();
        let command = [&[&workload, "habit", habit], options].concat();
        self.record(habit, &command)
    }
}

/// What a command answers in JSON.
fn answer(arguments: &[&str]) -> Value {
    let output = tool::command(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// The number behind a word in what the workload wrote.
fn behind(text: &str, word: &str) -> u64 {
    let mut words = text.split_whitespace().skip_while(|found| *found != word);
    words
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number behind {word} in {text}"))
}

/// The advice of a rule, if there is one.
fn advice<'a>(answer: &'a Value, rule: &str) -> Option<&'a Value> {
    let all = answer["advice"].as_array().unwrap();
    all.iter().find(|advice| advice["rule"] == rule)
}

/// Faults that a process has before it counts its own, and behind that.
const MARGIN: u64 = 150;

#[test]
fn stat_counts_what_the_kernel_counts() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _thp = huge_pages_on_request();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stat.json");
        let file = file.to_str().unwrap();
        let workload = program::find(program::WORKLOAD);
        let command = [
            workload.to_str().unwrap(),
            "habit",
            "whole",
            "--pages",
            "20000",
        ];
        let arguments = ["stat", "-r", "3", "--json", "-o", file, "--"];
        let said = run(&[&arguments[..], &command].concat(), 0);
        let counted = behind(&said, "faults");
        let stat: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let runs = stat["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 3);
        for run in runs {
            let faults = number(&run["totals"]["faults"]);
            assert!(
                faults.abs_diff(counted) <= MARGIN,
                "{faults} against {counted}"
            );
            let zero_fill = &run["kinds"]["zero-fill"];
            assert!((20_000..20_000 + MARGIN).contains(&number(&zero_fill["faults"])));
            let time = number(&run["totals"]["time_ns"]);
            let cpu = number(&run["user_ns"]) + number(&run["system_ns"]);
            assert!(time > 0 && number(&run["wall_ns"]) > time / 2 && cpu > 0);
            let steps = run["histogram"].as_array().unwrap().iter();
            let sum: u64 = steps.map(|step| number(&step["faults"])).sum();
            assert_eq!(sum, number(&run["totals"]["timed"]));
        }
        let text = run(&[&["stat", "--"], &command[..]].concat(), 0);
        for part in ["of the wall time", "of the CPU time", "zero-fill", "|@@"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(
            run(&["stat", "--", "sh", "-c", "exit 7"], 7)
                .matches("exit 7")
                .count(),
            1
        );
        // The recorder's own priority is not for the commands.
        let said = run(&["stat", "-r", "2", "--", "nice"], 0);
        assert_eq!(
            said.lines().filter(|line| *line == "0").count(),
            2,
            "{said}"
        );
        assert!(run(&["stat"], 1).contains("name what to trace"));
    });
}

/// Records what a line of Python starts. The report by process, whose faults of children are as many as the kernel counts
/// for them, and the trace.
fn counted_children(traces: &Traces, name: &str, line: &str) -> (Value, String) {
    let script = format!(
        "import os, resource, subprocess, sys\n\
         {line}\n\
         of = resource.getrusage(resource.RUSAGE_CHILDREN)\n\
         print('faults', of.ru_minflt + of.ru_majflt, 'parent', os.getpid())"
    );
    let (file, said) = traces.record(name, &["python3", "-c", &script]);
    let report = answer(&[
        "report",
        &file,
        "--json",
        "--by",
        "pid",
        "--filter",
        "fate=minor,major",
    ]);
    let parent = behind(&said, "parent");
    let groups = report["tables"][0]["groups"].as_array().unwrap();
    let children = groups
        .iter()
        .filter(|group| number(&group["pid"]) != parent);
    let faults: u64 = children.map(|group| number(&group["faults"])).sum();
    assert_eq!(faults, behind(&said, "faults"), "{name}");
    assert_eq!(report["verdict"]["outcome"], "complete", "{name}");
    (report, file)
}

#[test]
fn children_cost_what_the_kernel_counts_for_them() {
    guest::test(|_| {
        let _module = module::load_idle();
        let traces = Traces::new();
        let list =
            "for _ in range(20): subprocess.run(['ls', '/usr/lib'], stdout=subprocess.DEVNULL)";
        let (report, file) = counted_children(&traces, "children", list);
        assert_eq!(number(&report["totals"]["execs"]), 21);
        let text = run(&["report", &file, "--by", "process,kind"], 0);
        assert!(text.contains("ls") && text.contains("file-exec"), "{text}");
    });
}

/// Programs of every day, with threads and processes of their own.
#[test]
fn garbage_collection_of_git_and_a_compression_are_counted_as_the_kernel_does() {
    guest::test(|_| {
        let _module = module::load_idle();
        let traces = Traces::new();
        let folder = traces.0.path().join("repository");
        fs::create_dir(&folder).unwrap();
        let prepare =
            "git init -q && for i in $(seq 40); do seq $i 3000 >f$i; done && git add . && \
            git -c user.name=a -c user.email=a@b commit -qm all";
        let prepared = Command::new("sh")
            .args(["-c", prepare])
            .current_dir(&folder)
            .status();
        assert!(prepared.unwrap().success());
        let folder = folder.to_str().unwrap();
        let collect = format!("subprocess.run(['git', '-C', '{folder}', 'gc', '-q'], check=True)");
        let (report, file) = counted_children(&traces, "git", &collect);
        assert!(number(&report["totals"]["execs"]) > 3, "git calls itself");
        let text = run(&["report", &file, "--by", "program", "--top", "0"], 0);
        assert!(text.contains("/git"), "{text}");

        let compress =
            "subprocess.run('seq 100000 | xz -T2 -2 >/dev/null', shell=True, check=True)";
        let (_, file) = counted_children(&traces, "xz", compress);
        // The dictionary and the buffers, each page once.
        let report = answer(&["report", &file, "--json", "--filter", "program~xz"]);
        let zero_fill = &report["kinds"]["zero-fill"];
        assert!(number(&zero_fill["faults"]) > 200, "{zero_fill}");
        assert!(run(&["report", &file, "--trends"], 0).contains(" of all)"));
    });
}

#[test]
fn a_cold_start_shows_the_files_that_were_read() {
    guest::test(|_| {
        let _module = module::load_idle();
        let traces = Traces::new();
        let script = "import json, resource\n\
            print('major', resource.getrusage(resource.RUSAGE_SELF).ru_majflt)";
        let start = |name: &str| traces.record(name, &["python3", "-c", script]);
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        let (cold, said) = start("cold");
        let (warm, _) = start("warm");
        let report = answer(&["report", &cold, "--json"]);
        let files = report["cold"].as_array().unwrap();
        let major: u64 = files.iter().map(|file| number(&file["major"])).sum();
        let counted = behind(&said, "major");
        assert!(counted > 0, "nothing was cold: {said}");
        assert!(
            major >= counted && major - counted <= 20,
            "{major} against {counted}"
        );
        assert!(files.iter().all(|file| number(&file["time_ns"]) > 0));
        assert!(run(&["report", &cold, "--cold"], 0).contains("python3"));
        let diff = answer(&["diff", &cold, &warm, "--json"]);
        let majors = &diff["totals"]["major"];
        assert_eq!(majors["before"], major as f64);
        assert!(
            majors["after"].as_f64() < majors["before"].as_f64(),
            "{majors}"
        );
        assert_eq!(majors["certainty"], "unknown");
    });
}

#[test]
fn leak_and_churn_are_told_apart() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _thp = huge_pages_on_request();
        let traces = Traces::new();
        let of_program = |file: &str| {
            let report = answer(&["report", file, "--json"]);
            let programs = report["programs"].as_array().unwrap().clone();
            let is_workload = |of: &Value| {
                of["program"]
                    .as_str()
                    .is_some_and(|path| path.ends_with(program::WORKLOAD))
            };
            programs
                .into_iter()
                .find(is_workload)
                .expect("the workload")
        };
        let touched = |program: &Value, name: &str| -> u64 {
            let steps = program["growth"]["steps"].as_array().unwrap().iter();
            steps.map(|step| number(&step[name])).sum()
        };
        let options = ["--pages", "64", "--passes", "100", "--pause", "10"];
        let leak = of_program(&traces.habit("leak", &options).0);
        assert!(
            (6400..6400 + MARGIN).contains(&touched(&leak, "first")),
            "{leak}"
        );
        assert!(touched(&leak, "again") <= 10, "{leak}");
        // When it grew depends on the machine's load; that it grew to the end is known by construction.
        assert!(leak["growth"]["late_part"].as_f64() > Some(0.0), "{leak}");
        // 40 MiB: a mapping of its own, whatever was freed before.
        let options = ["--pages", "10240", "--passes", "10"];
        let churn = of_program(&traces.habit("churn", &options).0);
        assert!(touched(&churn, "first") <= 10_241 + MARGIN, "{churn}");
        assert!(touched(&churn, "again") >= 9 * 10_240, "{churn}");
        let text = run(
            &[
                "report",
                &traces.habit("leak", &["--passes", "3"]).0,
                "--refault",
            ],
            0,
        );
        assert!(text.contains("touched first by ft-workload"), "{text}");
    });
}

#[test]
fn advice_is_for_those_who_deserve_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _thp = huge_pages_on_request();
        let traces = Traces::new();
        let advise = |habit: &str| {
            let (file, _) = traces.habit(habit, &["--pages", "16384", "--passes", "4"]);
            answer(&["advise", &file, "--json"])
        };
        for (rule, deserves, near) in [
            ("refault", "churn", "reuse"),
            ("huge-pages", "whole", "sparse"),
            ("read-then-write", "read-first", "write-first"),
        ] {
            let found = advise(deserves);
            let of = advice(&found, rule).unwrap_or_else(|| panic!("{deserves}: {found}"));
            let saving = number(&of["saving"]);
            let wanted = match rule {
                "refault" => 3 * 16_384,
                "huge-pages" => 31 * 511,
                _ => 16_384,
            };
            assert!(
                saving.abs_diff(wanted) <= wanted / 20,
                "{rule}: {saving} for {wanted}"
            );
            let found = advise(near);
            assert!(advice(&found, rule).is_none(), "{near}: {found}");
        }
    });
}

/// Programs of every day that deserve advice, and near ones that do not: the rule, and what both do.
fn pairs(file: &str, disk: &str) -> [(&'static str, String, String); 5] {
    const MEMORY: &str = "import mmap, os, random, time\n\
        def memory(pages):\n \
        return mmap.mmap(-1, 4096 * pages, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n";
    // How long it has run: on a slow machine, Python takes its time to start.
    const ELAPSED: &str = "float(open('/proc/uptime').read().split()[0])\
        - int(open('/proc/self/stat').read().split()[21]) / os.sysconf('SC_CLK_TCK')";
    // In no order, in eight parts, with a pause behind each or behind all.
    let touches = |pause: &str, end: &str| {
        format!(
            "{MEMORY}m = memory(8192)\n\
             pages = list(range(8192)); random.Random(1).shuffle(pages)\n\
             for part in range(8):\n \
             for page in pages[part * 1024:part * 1024 + 1024]: m[page * 4096] = 1\n \
             time.sleep({pause})\n\
             time.sleep({end}); m[0] = 2"
        )
    };
    let forks = |copies: u32| {
        format!(
            "{MEMORY}m = memory(4000)\n\
             for page in range(4000): m[page * 4096] = 1\n\
             if os.fork() == 0:\n \
             for page in range({copies}): m[page * 4096] = 2\n \
             os.execv('/bin/true', ['true'])\n\
             os.wait()"
        )
    };
    let reads = |order: &str| {
        format!(
            "import mmap, random\n\
             opened = open('{file}', 'rb')\n\
             file = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)\n\
             pages = list(range(0, len(file), 4096)); {order}\n\
             print(sum(file[page] for page in pages))"
        )
    };
    let writes = |between: &str| {
        format!(
            "import mmap\n\
             opened = open('{disk}', 'r+b')\n\
             file = mmap.mmap(opened.fileno(), 4096 * 1000)\n\
             for turn in range(3):\n \
             for page in range(1000): file[page * 4096] = turn\n \
             {between}"
        )
    };
    let starts = |program: &str| {
        format!(
            "import subprocess\n\
             for _ in range(30): subprocess.run(['{program}', '/'], stdout=subprocess.DEVNULL)"
        )
    };
    [
        (
            "late-touch",
            touches("0.2", "0"),
            touches("0", &format!("2 * ({ELAPSED}) + 1")),
        ),
        ("fork-copies", forks(4000), forks(1)),
        ("populate-file", reads(""), reads("random.Random(1).shuffle(pages)")),
        ("dirty-again", writes("file.flush()"), writes("pass")),
        (
            "exec-storm",
            starts("/bin/ls"),
            "import subprocess; subprocess.run(['/bin/ls', '-R', '/usr'], stdout=subprocess.DEVNULL)"
                .into(),
        ),
    ]
}

#[test]
fn programs_of_every_day_get_the_advice_that_they_deserve() {
    guest::test(|_| {
        // Whose pages are written back.
        let _disk = swap::Disk::new(16);
        let _module = module::load_idle();
        let _thp = huge_pages_on_request();
        let traces = Traces::new();
        let file = module::kernel_image();
        for (rule, deserves, near) in pairs(&file, swap::DEVICE) {
            let advised = |script: &str| {
                let (file, _) = traces.record(rule, &["python3", "-c", script]);
                fs::rename(&file, format!("{file}.last")).unwrap();
                answer(&["advise", &format!("{file}.last"), "--json"])
            };
            let found = advised(&deserves);
            assert!(advice(&found, rule).is_some(), "{rule}: {found:#}");
            let found = advised(&near);
            assert!(advice(&found, rule).is_none(), "{rule}: {found:#}");
        }
    });
}

/// A program that executes functions of a page each, at so many bytes from one another.
#[test]
fn functions_that_lie_apart_are_listed_in_their_order() {
    guest::test(|_| {
        let _module = module::load_idle();
        let traces = Traces::new();
        let folder = traces.0.path();
        let listed = |bytes: u32| {
            let mut source = String::new();
            for n in 0..300 {
                source += &format!(
                    "__attribute__((aligned({bytes}))) void f{n}(void) {{ __asm__ volatile(\"\"); }}\n"
                );
            }
            source += "int main(void) {\n";
            // Backwards, so that the order of the file is not that of the calls.
            source.extend((0..300).rev().map(|n| format!("f{n}();\n")));
            source += "return 0; }\n";
            let program = compile(folder, "functions.c", &source, &["-O0"]);
            let (file, _) = traces.record("trace", &[program.to_str().unwrap()]);
            let found = answer(&["advise", &file, "--json"]);
            fs::remove_file(file).unwrap();
            advice(&found, "order-file").cloned()
        };
        let apart = listed(64 << 10).expect("they lie apart");
        let functions = apart["functions"].as_array().unwrap();
        // The last one is near `main`, and needs no fault of its own.
        let first = functions.iter().position(|name| name == "f298").unwrap();
        assert_eq!(functions[first + 1], "f297", "{apart:#}");
        assert!(number(&apart["saving"]) > 250, "{apart:#}");
        assert_eq!(listed(16), None);
    });
}

/// Makes a function that touches pages, says so in a file for perf, and calls it.
const COMPILER: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    /* do { *memory = 1; memory += 4096; } while (--pages); */
    static const char code[] = "\xc6\x07\x01\x48\x81\xc7\x00\x10\x00\x00\x48\xff\xce\x75\xf1\xc3";
    char *made = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(made, code, sizeof(code));
    int is_dump = count > 1 && !strcmp(arguments[1], "dump");
    char path[64];
    sprintf(path, is_dump ? "/tmp/jit-%d.dump" : "/tmp/perf-%d.map", getpid());
    FILE *file = fopen(path, "w");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t time = now.tv_sec * 1000000000ull + now.tv_nsec;
    struct { uint32_t magic, version, bytes, machine, pad, pid; uint64_t time, flags; } header =
        { 0x4a695444, 1, sizeof(header), 62, 0, getpid(), time, 0 };
    struct { uint32_t what, bytes; uint64_t time; uint32_t pid, tid; uint64_t vma, start, size, index; } load =
        { 0, sizeof(load) + sizeof("filler") + sizeof(code), time, getpid(), getpid(),
          (uintptr_t)made, (uintptr_t)made, sizeof(code), 1 };
    if (is_dump) {
        fwrite(&header, sizeof(header), 1, file);
        fwrite(&load, sizeof(load), 1, file);
        fwrite("filler", sizeof("filler"), 1, file);
        fwrite(code, sizeof(code), 1, file);
    } else {
        fprintf(file, "%lx %zx filler\n", (long)made, sizeof(code));
    }
    fclose(file);
    ((void (*)(char *, long))made)(malloc(3000 * 4096L), 3000);
    return 0;
}
"#;

#[test]
fn code_that_a_program_made_has_its_names() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _thp = huge_pages_on_request();
        let traces = Traces::new();
        let folder = traces.0.path();
        let program = compile(folder, "jit.c", COMPILER, &["-O1"]);
        for kind in ["map", "dump"] {
            let (file, _) = traces.record(kind, &[program.to_str().unwrap(), kind]);
            let found = answer(&["report", &file, "--json", "--by", "symbol"]);
            let groups = found["tables"][0]["groups"].as_array().unwrap().iter();
            let faults = groups
                .filter(|group| group["symbol"] == "filler")
                .map(|group| number(&group["faults"]))
                .sum::<u64>();
            // The allocator has touched the first page.
            assert!((2999..=3001).contains(&faults), "{kind}: {found:#}");
        }
    });
}

/// What `advise --verify` measures of a rule with a command, which may write to its standard output.
fn verified(rule: &str, command: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("verified.json");
    let script = "out=$1; shift; exec fault-tracer advise --verify --runs 2 --json -- \
        sh -c '\"$@\" >/dev/null' sh \"$@\" >\"$out\"";
    let mut advise = Command::new("sh");
    advise.args(["-c", script, "sh"]).arg(&file).args(command);
    assert!(advise.status().unwrap().success());
    let answer: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let tried = answer["verified"].as_array().unwrap();
    let tried = tried.iter().find(|tried| tried["rule"] == rule);
    tried.unwrap_or_else(|| panic!("{answer:#}")).clone()
}

/// That the prediction was right within a tenth.
fn assert_as_predicted(tried: &Value) {
    let predicted = tried["predicted_saving"].as_f64().unwrap();
    let measured = tried["measured_saving"].as_f64().unwrap();
    assert!(
        (predicted - measured).abs() <= predicted / 10.0,
        "{tried:#}"
    );
}

#[test]
fn what_is_predicted_is_measured() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _thp = huge_pages_on_request();
        let workload = program::find(program::WORKLOAD);
        let habit = [workload.to_str().unwrap(), "habit"];
        // Of the allocator's memory, and of what the program maps itself.
        for (rule, options) in [
            ("refault", &["churn", "--passes", "10"][..]),
            ("huge-pages", &["whole"]),
            ("huge-pages", &["whole", "--mapped"]),
            ("read-then-write", &["read-first", "--mapped"]),
        ] {
            if rule == "huge-pages" && setting::is_realtime() {
                continue;
            }
            let command = [&habit, options, &["--pages", "10240"]].concat();
            let tried = verified(rule, &command);
            assert_as_predicted(&tried);
            assert_eq!(tried["counted"], "faults");
        }
    });
}

/// Populating counts as faults for `getrusage`, and saves those of the program's own instructions.
#[test]
fn files_that_are_mapped_at_once_do_not_trap() {
    guest::test(|_| {
        let _module = module::load_idle();
        let file = module::kernel_image();
        // In memory, each fault maps all that is near: so it is to be in the first run, too.
        fs::read(&file).unwrap();
        let script = format!(
            "import mmap\n\
             opened = open('{file}', 'rb')\n\
             file = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)\n\
             print(sum(file[at] for at in range(0, len(file), 4096)))"
        );
        let tried = verified("populate-file", &["python3", "-c", &script]);
        assert_eq!(tried["counted"], "traps");
        assert!(
            tried["predicted_saving"].as_f64() > Some(100.0),
            "{tried:#}"
        );
        assert_as_predicted(&tried);
    });
}

#[test]
fn files_that_are_read_before_cost_no_major_faults() {
    guest::test(|_| {
        let _module = module::load_idle();
        let file = module::kernel_image();
        // The kernel reads no page before it is asked for.
        let script = format!(
            "import mmap\n\
             opened = open('{file}', 'rb')\n\
             file = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)\n\
             file.madvise(mmap.MADV_RANDOM)\n\
             print(sum(file[at] for at in range(0, len(file), 4096 * 8)))"
        );
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
        let tried = verified("prefetch", &["python3", "-c", &script]);
        assert_eq!(tried["counted"], "major");
        assert!(
            tried["predicted_saving"].as_f64() > Some(300.0),
            "{tried:#}"
        );
        assert_as_predicted(&tried);
    });
}

#[test]
fn a_change_is_told_from_chance() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _thp = huge_pages_on_request();
        let traces = Traces::new();
        let workload = program::find(program::WORKLOAD);
        let workload = workload.to_str().unwrap();
        let record = |name: &str, pages: &str| {
            traces
                .record(name, &[workload, "habit", "whole", "--pages", pages])
                .0
        };
        let small = ["a", "b", "c"].map(|name| record(name, "1000"));
        let large = ["d", "e", "f"].map(|name| record(name, "3000"));
        let arguments = |before: &[&str], after: &[&str]| -> Vec<String> {
            let words = [&["diff", "--json", "--by", "kind"], before, &["--"], after].concat();
            words.into_iter().map(str::to_owned).collect()
        };
        let compare = |before: &[&str], after: &[&str]| {
            let words = arguments(before, after);
            answer(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let [a, b, c] = small.each_ref().map(String::as_str);
        let large = large.each_ref().map(String::as_str);
        let diff = compare(&[a, b, c], &large);
        let zero_fill = &diff["tables"][0]["groups"][0];
        assert_eq!(zero_fill["kind"], "zero-fill");
        let faults = &zero_fill["faults"];
        assert_eq!(faults["certainty"], "change", "{faults}");
        let change = faults["after"].as_f64().unwrap() - faults["before"].as_f64().unwrap();
        assert!((change - 2000.0).abs() < 50.0, "{change}");
        let text = run(&["diff", a, large[0]], 0);
        assert!(text.contains("does not tell change from chance"), "{text}");
        assert!(run(&["diff", a, b, c], 1).contains("several on each side of --"));
    });
}

/// A process that is killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("cannot kill it");
        self.0.wait().expect("cannot wait for it");
    }
}

/// A program that faults until it is killed.
fn spinning() -> Running {
    let mut command = Command::new(program::find(program::WORKLOAD));
    command.arg("spin").stdout(Stdio::null());
    Running(command.spawn().unwrap())
}

#[test]
fn top_shows_who_faults() {
    guest::test(|_| {
        let _module = module::load_idle();
        let spin = spinning();
        let pid = spin.0.id().to_string();
        for target in [&["-p", &pid][..], &["-a"], &[]] {
            let arguments = [&["top", "--batch", "-n", "2", "-d", "0.5"], target].concat();
            let text = run(&arguments, 0);
            let of_process = text.lines().filter(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                words.contains(&pid.as_str()) && words.contains(&program::WORKLOAD)
            });
            assert!(of_process.count() >= 1, "{text}");
            assert_eq!(text.matches("in all,").count(), 2, "{text}");
        }
        assert!(run(&["top"], 1).contains("--batch"));
        assert!(run(&["top", "--batch", "--", "ls"], 1 + 124).contains("fault-tracer stat"));
    });
}

#[test]
fn watch_draws_what_faults() {
    guest::test(|_| {
        let _module = module::load_idle();
        let spin = spinning();
        let pid = spin.0.id().to_string();
        let drawn = |text: &str| {
            let dots = |c: &char| ('\u{2801}'..'\u{2900}').contains(c);
            text.chars().filter(dots).count()
        };
        for target in [&["-p", &pid][..], &["-a"], &[]] {
            let options = ["watch", "--batch", "-n", "2", "-d", "0.5", "--last", "5s"];
            let text = run(&[&options[..], target].concat(), 0);
            assert_eq!(text.matches("in all,").count(), 2, "{text}");
            assert!(text.contains("-5.00 s") && text.contains("now"), "{text}");
            assert!(drawn(&text) > 0, "{text}");
        }
        assert!(run(&["watch"], 1).contains("--batch"));
        assert!(run(&["watch", "--batch", "--", "ls"], 1 + 124).contains("--pid"));
    });
}

#[test]
fn a_database_and_a_sort_are_reported_whole() {
    guest::test(|_| {
        let _module = module::load_idle();
        let traces = Traces::new();
        let insert = "import sqlite3; c = sqlite3.connect('/tmp/answers.db')\n\
            c.execute('create table t(a, b)')\n\
            c.executemany('insert into t values(?, ?)', ((n, str(n) * 9) for n in range(5000)))\n\
            c.commit()";
        let sort = "seq 50000 | sort -R | sort -n >/dev/null";
        for (name, command) in [
            ("sqlite", ["python3", "-c", insert]),
            ("sort", ["sh", "-c", sort]),
        ] {
            let (file, _) = traces.record(name, &command);
            let report = answer(&["report", &file, "--json", "--by", "symbol"]);
            assert_eq!(report["verdict"]["outcome"], "complete");
            assert_eq!(report["trace"]["whole"], true);
            assert!(!report["stand_out"].as_array().unwrap().is_empty());
            let groups = report["tables"][0]["groups"].as_array().unwrap();
            let faults: u64 = groups.iter().map(|group| number(&group["faults"])).sum();
            assert_eq!(faults, number(&report["totals"]["faults"]));
            let found = groups
                .iter()
                .filter(|group| group["symbol"].is_string())
                .count();
            assert!(found > 5, "{found} symbols");
        }
        fs::remove_file("/tmp/answers.db").unwrap();
    });
}
