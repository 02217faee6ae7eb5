// SPDX-License-Identifier: GPL-2.0-only

//! Writes the inputs that are as they should be to the corpus: to be run when a format has changed.

use std::{fs, io, path::Path};

use fault_tracer_fuzz::{seeds, TARGETS};

fn main() -> io::Result<()> {
    for (target, _) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds(target) {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
