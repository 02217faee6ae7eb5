// SPDX-License-Identifier: GPL-2.0-only

//! `splice`, `tee` and `vmsplice`: pages move between files and pipes without a look at the program's memory. `vmsplice` gives
//! pages of the program to a pipe: they are pinned, and fault in if nobody has touched them.

use anyhow::{ensure, Result};
use rustix::{
    io::read,
    mm::MapFlags,
    pipe::{fcntl_setpipe_size, pipe, splice, tee, vmsplice, IoSliceRaw, SpliceFlags},
};

use super::{Cases, Way};
use crate::{
    lab::{Lab, Moved, CHUNK},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "splice",
        cases: Cases::File,
        shows: "file to pipe to file: no buffer, no fault",
        run: through_a_pipe,
    },
    Way {
        name: "tee",
        cases: Cases::File,
        shows: "the same, through a second pipe that tee(2) fills",
        run: through_two_pipes,
    },
    Way {
        name: "vmsplice",
        cases: Cases::Memory,
        shows: "pages of the program into a pipe: get_user_pages faults them in",
        run: out_of_memory,
    },
];

fn through_a_pipe(lab: &Lab) -> Result<Moved> {
    let (from, to) = (lab.source()?, lab.target()?);
    let (output, input) = pipe()?;
    let mut bytes = 0;
    while bytes < lab.bytes {
        let mut left = splice(&from, None, &input, None, CHUNK, SpliceFlags::empty())?;
        bytes += left;
        while left > 0 {
            left -= splice(&output, None, &to, None, left, SpliceFlags::empty())?;
        }
    }
    Ok(Moved::unseen(bytes))
}

fn through_two_pipes(lab: &Lab) -> Result<Moved> {
    let (from, to) = (lab.source()?, lab.target()?);
    let (first_output, first_input) = pipe()?;
    let (second_output, second_input) = pipe()?;
    let mut moved = Moved::default();
    let mut buffer = vec![0; CHUNK];
    while moved.bytes < lab.bytes {
        splice(&from, None, &first_input, None, CHUNK, SpliceFlags::empty())?;
        let mut copied = tee(&first_output, &second_input, CHUNK, SpliceFlags::empty())?;
        // One of both goes to the file, the other into memory.
        let count = copied;
        while copied > 0 {
            copied -= splice(
                &second_output,
                None,
                &to,
                None,
                copied,
                SpliceFlags::empty(),
            )?;
        }
        let mut seen = 0;
        while seen < count {
            seen += read(&first_output, &mut buffer[seen..count])?;
        }
        moved.read(&buffer[..count]);
    }
    Ok(moved)
}

fn out_of_memory(lab: &Lab) -> Result<Moved> {
    let (output, input) = pipe()?;
    fcntl_setpipe_size(&input, CHUNK)?;
    let mut memory = Map::of_memory(lab.bytes, MapFlags::PRIVATE)?;
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    while bytes < lab.bytes {
        let part = &mut memory[bytes..bytes + CHUNK];
        let part = [IoSliceRaw::from_slice(part)];
        // SAFETY: The memory is not written until the pipe has been read.
        let count = unsafe { vmsplice(&input, &part, SpliceFlags::empty()) }?;
        let mut seen = 0;
        while seen < count {
            seen += read(&output, &mut buffer[seen..count])?;
        }
        ensure!(buffer[..count].iter().all(|byte| *byte == 0), "it was zero");
        bytes += count;
    }
    Ok(Moved::unseen(bytes))
}
