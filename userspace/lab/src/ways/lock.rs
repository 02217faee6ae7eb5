// SPDX-License-Identifier: GPL-2.0-only

//! `mlock`, `mlockall` and `MLOCK_ONFAULT`: memory that stays. The first two fault everything in at once; the last one locks
//! each page when it is touched. More than `RLIMIT_MEMLOCK` may not be locked.

use anyhow::Result;
use rustix::mm::{mlock, mlock_with, mlockall, munlockall, MapFlags, MlockAllFlags, MlockFlags};

use super::{Cases, Way};
use crate::{
    lab::{page_size, Lab, Moved},
    map::Map,
};

/// Pages that are touched: what is faulted in beyond them is the lock's doing.
const TOUCHED: usize = 16;

pub const WAYS: &[Way] = &[
    Way {
        name: "mlock",
        cases: Cases::Memory,
        shows: "mlock(2), then 16 pages are touched: all fault in at once",
        run: locked,
    },
    Way {
        name: "mlock-onfault",
        cases: Cases::Memory,
        shows: "MLOCK_ONFAULT, then 16 pages are touched: these fault",
        run: on_fault,
    },
    Way {
        name: "mlockall",
        cases: Cases::Memory,
        shows: "mlockall(MCL_FUTURE), then memory is mapped: it is filled at once",
        run: all,
    },
];

fn touch(map: &mut Map) -> Moved {
    for page in 0..TOUCHED {
        map[page * page_size()] = 1;
    }
    Moved::unseen(TOUCHED * page_size())
}

fn memory(lab: &Lab) -> Result<Map> {
    Map::of_memory(lab.bytes, MapFlags::PRIVATE)
}

fn locked(lab: &Lab) -> Result<Moved> {
    let mut map = memory(lab)?;
    // SAFETY: The mapping is ours, and locking changes nothing of what is in it.
    unsafe { mlock(map.start(), lab.bytes) }?;
    Ok(touch(&mut map))
}

fn on_fault(lab: &Lab) -> Result<Moved> {
    let mut map = memory(lab)?;
    // SAFETY: As above.
    unsafe { mlock_with(map.start(), lab.bytes, MlockFlags::ONFAULT) }?;
    Ok(touch(&mut map))
}

fn all(lab: &Lab) -> Result<Moved> {
    mlockall(MlockAllFlags::FUTURE)?;
    let moved = memory(lab).map(|mut map| touch(&mut map));
    munlockall()?;
    moved
}
