// SPDX-License-Identifier: GPL-2.0-only

//! Processes that become targets when they execute a program.

use std::collections::BTreeSet;

use fault_tracer_uapi::{self as uapi, session_flag, target_flag, task_event};
use sandbox_tests::{
    device::{Session, Setup},
    guest, module,
    program::{self, Program},
    sideband::{self, Record},
    trace::{matches, Trace},
    truth::Truth,
};

fn add_on_exec(session: &Session, pid: i32) -> std::io::Result<()> {
    let flags = target_flag::ON_EXEC;
    session.with(uapi::FT_IOC_TARGET_ADD, &mut uapi::Target { pid, flags })
}

#[test]
fn a_target_from_its_exec_on_has_nothing_before_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let reported = folder.path().join("truth");
        let mut program = Program::workload(&["touch"], Some(&reported), None);
        program.wait_at_gate();
        let session = Session::configured(uapi::Config {
            ring_bytes: 16 << 20,
            flags: session_flag::SIDEBAND | session_flag::FOLLOW,
            ..Default::default()
        });
        add_on_exec(&session, program.pid()).unwrap();
        // Once more: no other target.
        add_on_exec(&session, program.pid()).unwrap();
        assert_eq!(session.info().live_targets, 1, "it waits");
        program.go();
        program.wait().assert_success();
        assert_eq!(session.info().live_targets, 0);
        session.stop().unwrap();
        let mut records: Vec<Record> = (0..session.info().cpus)
            .flat_map(|cpu| sideband::parse(&session.drain_words(cpu)))
            .collect();
        records.sort_by_key(Record::time_ns);
        let Some(Record::Task(first)) = records.first() else {
            panic!("the first record is {:?}", records.first());
        };
        assert_eq!(first.event, task_event::PRESENT);
        assert!(first.path.ends_with("ft-workload"), "{first:?}");
        let exec = records.iter().position(
            |record| matches!(record, Record::Task(task) if task.event == task_event::EXEC),
        );
        assert_eq!(exec, Some(1), "the exec follows at once");
    });
}

#[test]
fn who_ends_without_an_exec_was_no_target() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::idle(Setup::default());
        let program = Program::workload(&["touch"], None, None);
        program.wait_at_gate();
        add_on_exec(&session, program.pid()).unwrap();
        session.start().unwrap();
        assert_eq!(session.info().live_targets, 1);
        program.kill();
        assert_eq!(session.info().live_targets, 0);
        session.stop().unwrap();
        for cpu in 0..session.info().cpus {
            assert_eq!(session.counters(cpu).map_or(0, |counters| counters.hits), 0);
        }
    });
}

#[test]
fn what_cannot_wait_is_refused() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::running(Setup::default());
        let error = |pid, flags, command| {
            session
                .with(command, &mut uapi::Target { pid, flags })
                .unwrap_err()
                .raw_os_error()
        };
        let own = guest::own_pid();
        assert_eq!(error(own, 2, uapi::FT_IOC_TARGET_ADD), Some(libc::EINVAL));
        let on_exec = target_flag::ON_EXEC;
        assert_eq!(
            error(own, on_exec, uapi::FT_IOC_TARGET_REMOVE),
            Some(libc::EINVAL)
        );
        let programs: Vec<Program> = (0..65)
            .map(|_| Program::workload(&["touch"], None, None))
            .collect();
        let (last, others) = programs.split_last().unwrap();
        for program in others {
            program.wait_at_gate();
            add_on_exec(&session, program.pid()).unwrap();
        }
        last.wait_at_gate();
        assert_eq!(
            error(last.pid(), on_exec, uapi::FT_IOC_TARGET_ADD),
            Some(libc::ENOSPC)
        );
        assert_eq!(session.info().live_targets, 64);
        // Room again for who comes later.
        let mut first = uapi::Target {
            pid: others[0].pid(),
            flags: 0,
        };
        session
            .with(uapi::FT_IOC_TARGET_REMOVE, &mut first)
            .unwrap();
        add_on_exec(&session, last.pid()).unwrap();
        drop(programs);
        assert_eq!(session.info().live_targets, 0);
    });
}

/// One program is one program: nothing of the tool's own child before its exec.
#[test]
fn a_command_is_recorded_from_its_exec_on() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let reported = folder.path().join("truth");
        let workload = program::find(program::WORKLOAD);
        let workload = workload.to_str().unwrap();
        let command = [workload, "touch", "--truth", reported.to_str().unwrap()];
        let trace = Trace::of_command(&[], &command);
        trace.assert_balance();
        matches(&Truth::read(&reported), &trace.faults());
        let rows = trace.rows();
        let names: BTreeSet<_> = rows
            .iter()
            .filter_map(|row| row.process.as_deref())
            .collect();
        assert_eq!(names, BTreeSet::from(["ft-workload"]));
        let programs: BTreeSet<_> = rows
            .iter()
            .filter_map(|row| row.program.as_deref())
            .collect();
        assert_eq!(programs, BTreeSet::from([workload]));
        assert_eq!(rows[0].event, "present", "{:?}", rows[0]);
    });
}
