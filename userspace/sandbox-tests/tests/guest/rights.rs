// SPDX-License-Identifier: GPL-2.0-only

//! An open device that was handed to somebody who could not have opened it lets that one read, and decide nothing.

use std::io;

use fault_tracer_uapi::{state, MAX_SESSIONS};
use rustix::thread::CapabilitySet;
use sandbox_tests::{
    device::{Session, Setup},
    guest, module,
};

/// Runs something in a thread that has no rights.
fn without_rights<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    guest::as_nobody(CapabilitySet::empty(), run)
}

fn errors(results: &[io::Result<()>]) -> Vec<Option<i32>> {
    results
        .iter()
        .map(|result| result.as_ref().err().and_then(io::Error::raw_os_error))
        .collect()
}

#[test]
fn who_could_not_open_the_device_cannot_say_what_is_traced() {
    guest::test(|log| {
        let _module = module::load_idle();
        let session = Session::open().unwrap();
        let running = Session::running(Setup::default());
        log.news();
        let (opened, results, read) = without_rights(|| {
            let results = [
                session.configure(Setup::default()),
                session.add(guest::own_pid()),
                session.start(),
                session.adopt(),
                running.add(guest::own_pid()),
            ];
            (Session::open().is_ok(), results, running.drain(0).len())
        });
        assert!(!opened, "nobody opened the device");
        assert_eq!(errors(&results), [Some(libc::EPERM); 5]);
        assert_eq!(read, 0, "nothing was to be read");
        let said = log.news();
        assert_eq!(said.len(), 2, "each session says it once: {said:?}");
        let info = session.info();
        assert_eq!((info.state, info.live_targets), (state::IDLE, 0));
        assert_eq!(running.info().live_targets, 0);
        // Whoever has the rights goes on with it.
        session.add(guest::own_pid()).unwrap();
        session.start().unwrap();
        // To stop one's own recording takes none.
        without_rights(|| session.stop()).unwrap();
    });
}

#[test]
fn the_session_of_the_module_s_parameters_is_not_stopped_without_rights() {
    guest::test(|_| {
        let own = guest::own_pid();
        let _module = module::load(&format!("pid={own}")).unwrap();
        let session = Session::open().unwrap();
        session.adopt().unwrap();
        let results = without_rights(|| [session.stop(), session.remove(own)]);
        assert_eq!(errors(&results), [Some(libc::EPERM); 2]);
        let info = session.info();
        assert_eq!((info.state, info.live_targets), (state::RUNNING, 1));
        session.stop().unwrap();
    });
}

#[test]
fn a_user_has_a_share_of_the_sessions_and_sees_no_others() {
    guest::test(|log| {
        let _module = module::load_idle();
        let setup = Setup {
            ring_bytes: guest::page_size() as u64,
            ..Setup::default()
        };
        let of_root = Session::running(setup);
        let idle = || Session::idle(setup);
        let sessions: Vec<Session> = (0..MAX_SESSIONS).map(|_| idle()).collect();
        log.news();
        let share = MAX_SESSIONS / 2;
        let (results, seen) = guest::as_nobody(CapabilitySet::PERFMON, || {
            let start = |session: &Session| session.start();
            let results: Vec<_> = sessions.iter().take(share + 1).map(start).collect();
            (results, of_root.overviews().len())
        });
        let mut expected = vec![None; share];
        expected.push(Some(libc::EDQUOT));
        assert_eq!(errors(&results), expected);
        assert_eq!(seen, share, "the user's own");
        let said = log.news();
        assert!(
            said.iter().any(|line| line.contains("the share of one")),
            "{said:?}"
        );
        // Root sees all, and takes the rest.
        assert_eq!(of_root.overviews().len(), share + 1);
        for session in &sessions[share + 1..] {
            session.start().unwrap();
        }
        assert_eq!(of_root.overviews().len(), MAX_SESSIONS);
    });
}
