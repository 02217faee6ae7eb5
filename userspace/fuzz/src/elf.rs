// SPDX-License-Identifier: GPL-2.0-only

//! A small program, as a linker writes it: what the inputs of `elf_file` are made from.

/// Where the code begins, in the file and in memory.
const CODE: u64 = 0x200;
const CODE_BYTES: u64 = 0x100;
const ADDRESS: u64 = 0x1000;

/// Functions of 16 bytes each, in the order of their addresses; the names as compilers mangle them.
const FUNCTIONS: [&str; 4] = [
    "main",
    "_ZN5hello5worldEiRKSt6vectorIiSaIiEE",
    "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE",
    "_RNvCs1234_7mycrate3foo",
];

/// The fields of both classes, one behind the other.
struct Bytes {
    bytes: Vec<u8>,
    is_64: bool,
}

impl Bytes {
    fn half(&mut self, value: u16) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn int(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// An address or size: as wide as the class says.
    fn word(&mut self, value: u64) -> &mut Self {
        let width = if self.is_64 { 8 } else { 4 };
        self.bytes.extend(&value.to_le_bytes()[..width]);
        self
    }

    /// Fills up with zeros; returns where it now ends.
    fn pad(&mut self, multiple: usize) -> u64 {
        let length = self.bytes.len().next_multiple_of(multiple);
        self.bytes.resize(length, 0);
        length as u64
    }
}

/// The program, for 64 or 32 bits, with or without a build id.
pub fn program(is_64: bool, with_build_id: bool) -> Vec<u8> {
    let new = || Bytes {
        bytes: Vec::new(),
        is_64,
    };
    let (header, segment, section, symbol) = if is_64 {
        (64, 56, 64, 24)
    } else {
        (52, 32, 40, 16)
    };

    let mut names = vec![0];
    let mut symbols = new();
    symbols.bytes.resize(symbol, 0);
    for (n, function) in FUNCTIONS.iter().enumerate() {
        let name = names.len() as u32;
        names.extend(function.bytes().chain([0]));
        let value = ADDRESS + n as u64 * 16;
        // A global function of section 1.
        const INFO: u16 = 0x12;
        if is_64 {
            symbols.int(name).half(INFO).half(1).word(value).word(16);
        } else {
            symbols.int(name).word(value).word(16).half(INFO).half(1);
        }
    }
    let section_names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0";
    let name_of = |name: &str| {
        let name = [name.as_bytes(), b"\0"].concat();
        let mut windows = section_names.windows(name.len());
        windows.position(|window| window == name).unwrap_or(0) as u32
    };

    let mut note = new();
    if with_build_id {
        note.int(4).int(20).int(3);
        note.bytes.extend(b"GNU\0");
        note.bytes.extend(1..=20);
    }
    let note_at = (header + 2 * segment) as u64;

    // Everything behind the code.
    let mut tail = new();
    let at = |tail: &mut Bytes| CODE + CODE_BYTES + tail.pad(8);
    let symbols_at = at(&mut tail);
    tail.bytes.extend(&symbols.bytes);
    let names_at = at(&mut tail);
    tail.bytes.extend(&names);
    let section_names_at = at(&mut tail);
    tail.bytes.extend(section_names);
    let sections_at = at(&mut tail);
    // Null, code, symbols, their names, the sections' names: type, address, offset, size, link, entry.
    for (name, kind, flags, address, offset, bytes, link, entry) in [
        ("", 0, 0, 0, 0, 0, 0, 0),
        (".text", 1, 6, ADDRESS, CODE, CODE_BYTES, 0, 0),
        (
            ".symtab",
            2,
            0,
            0,
            symbols_at,
            symbols.bytes.len() as u64,
            3,
            symbol as u64,
        ),
        (".strtab", 3, 0, 0, names_at, names.len() as u64, 0, 0),
        (
            ".shstrtab",
            3,
            0,
            0,
            section_names_at,
            section_names.len() as u64,
            0,
            0,
        ),
    ] {
        tail.int(name_of(name)).int(kind).word(flags).word(address);
        tail.word(offset).word(bytes).int(link).int(0);
        tail.word(1).word(entry);
    }

    let mut file = new();
    file.bytes.extend(b"\x7fELF");
    file.bytes.extend([if is_64 { 2 } else { 1 }, 1, 1]);
    file.pad(16);
    // A shared object; x86-64 or i386.
    file.half(3).half(if is_64 { 62 } else { 3 }).int(1);
    file.word(ADDRESS)
        .word(header as u64)
        .word(sections_at)
        .int(0);
    file.half(header as u16).half(segment as u16).half(2);
    file.half(section).half(5).half(4);
    for (kind, flags, offset, address, bytes, align) in [
        (1, 5, CODE, ADDRESS, CODE_BYTES, 4096),
        (4, 4, note_at, note_at, note.bytes.len() as u64, 4),
    ] {
        file.int(kind);
        if is_64 {
            file.int(flags);
        }
        file.word(offset).word(address).word(address);
        file.word(bytes).word(bytes);
        if !is_64 {
            file.int(flags);
        }
        file.word(align);
    }
    file.bytes.extend(&note.bytes);
    file.bytes.resize((CODE + CODE_BYTES) as usize, 0x90);
    file.bytes.extend(&tail.bytes);
    file.bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_symbols::Elf;
    use fault_tracer_trace::PageSize;
    use std::{fs, process::Command};

    /// The inputs lead to where symbols are found and demangled.
    #[test]
    fn its_symbols_are_found() {
        for (is_64, with_build_id) in [(true, true), (true, false), (false, true)] {
            let found = crate::code::symbols_in(&program(is_64, with_build_id));
            let found: Vec<&str> = found.iter().map(|name| &**name).collect();
            assert_eq!(
                found,
                [
                    "core::fmt::Write::write_fmt",
                    "hello::world(int, std::vector<int, std::allocator<int> > const&)",
                    "main",
                    "mycrate::foo",
                ]
            );
        }
    }

    /// Other programs read it as what it is meant to be.
    #[test]
    fn it_is_a_sound_program() {
        let folder = std::env::temp_dir().join(format!("elf-seed-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (is_64, with_build_id) in [(true, true), (true, false), (false, true)] {
            let path = folder.join("program");
            fs::write(&path, program(is_64, with_build_id)).unwrap();
            let elf = Elf::read(&fs::File::open(&path).unwrap()).unwrap().unwrap();
            assert_eq!(elf.build_id.is_some(), with_build_id);
            assert_eq!(elf.bias(CODE, PageSize::default()), Some(ADDRESS - CODE));
            let nm = Command::new("nm").arg(&path).output().unwrap();
            let text = String::from_utf8(nm.stdout).unwrap();
            for (n, function) in FUNCTIONS.iter().enumerate() {
                let address = ADDRESS + n as u64 * 16;
                assert!(
                    text.contains(&format!("{address:x} T {function}\n")),
                    "{text}"
                );
            }
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
