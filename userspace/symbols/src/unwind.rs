// SPDX-License-Identifier: GPL-2.0-only

//! How the stacks of an ELF file's code are unwound, as the file says. As of [`crate::Elf`], none of it is believed.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    sync::Arc,
};

use gimli::{
    BaseAddresses, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, LittleEndian, UnwindSection,
};
use object::{
    elf,
    pod::slice_from_bytes,
    read::elf::{FileHeader as _, SectionHeader as _},
    Endianness,
};

use crate::{
    elf::read,
    frame_rule::{FrameRule, Slice},
};

/// Sections that are longer than this are not read: no real one is.
const SECTION_BYTES_MOST: u64 = 1 << 28;
/// Section headers and their names beyond this are not looked at.
const HEADERS_BYTES_MOST: u64 = 1 << 22;

/// A section of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The addresses that it has in the file's own counting.
    pub addresses: Range<u64>,
    /// What is in it.
    pub data: Arc<[u8]>,
}

/// What an ELF file says of unwinding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnwindTable {
    /// `.eh_frame`.
    pub eh_frame: Option<Section>,
    /// `.eh_frame_hdr`, the index of the former.
    pub eh_frame_hdr: Option<Section>,
    /// `.debug_frame`, which says the same for debuggers; compressed ones are not read.
    pub debug_frame: Option<Section>,
    /// Where `.text` lies.
    pub text: Option<Range<u64>>,
    /// Where `.got` lies.
    pub got: Option<Range<u64>>,
    /// It is of the Go compiler, all whose functions keep frame pointers.
    pub is_go: bool,
    /// The entries of a table without an index, by the code that they are of: where they lie.
    entries: Option<Vec<(Range<u64>, usize)>>,
}

/// Of x86-64.
pub(crate) const ADDRESS_BYTES: u8 = 8;

impl UnwindTable {
    /// Reads a file; `None` if it is no 64-bit ELF file that could be understood.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn read(file: &File) -> io::Result<Option<Self>> {
        Self::parse(&|offset, bytes| read(file, offset, bytes))
    }

    /// That of the kernel's own code in programs (the vDSO), which is the same in all 64-bit processes: read from this one.
    ///
    /// # Errors
    ///
    /// Those of reading `/proc/self`.
    pub fn of_vdso() -> io::Result<Option<Self>> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        let line = maps.lines().find(|line| line.ends_with(" [vdso]"));
        let start = line.and_then(|line| u64::from_str_radix(line.split('-').next()?, 16).ok());
        let Some(start) = start else {
            return Ok(None);
        };
        let memory = File::open("/proc/self/mem")?;
        Self::parse(&|offset, bytes| read(&memory, start.saturating_add(offset), bytes))
    }

    fn parse(read: &dyn Fn(u64, usize) -> io::Result<Vec<u8>>) -> io::Result<Option<Self>> {
        let head = read(0, size_of::<elf::FileHeader64<Endianness>>())?;
        let Ok(header) = elf::FileHeader64::<Endianness>::parse(&*head) else {
            return Ok(None);
        };
        let Ok(endian) = header.endian() else {
            return Ok(None);
        };
        let count = u64::from(header.e_shnum.get(endian));
        let each = size_of::<elf::SectionHeader64<Endianness>>() as u64;
        if u64::from(header.e_shentsize.get(endian)) != each || count * each > HEADERS_BYTES_MOST {
            return Ok(None);
        }
        let bytes = (count * each) as usize;
        let table = read(header.e_shoff.get(endian), bytes)?;
        // Read into memory that is aligned for anything, as `Vec`s of that size are.
        let Ok((headers, _)) =
            slice_from_bytes::<elf::SectionHeader64<Endianness>>(&table, count as usize)
        else {
            return Ok(None);
        };
        let names = match headers.get(usize::from(header.e_shstrndx.get(endian).0)) {
            Some(names) if names.sh_size(endian) <= HEADERS_BYTES_MOST => {
                read(names.sh_offset(endian), names.sh_size(endian) as usize)?
            }
            _ => return Ok(None),
        };
        let mut found = Self::default();
        for section in headers {
            let name = names.get(section.sh_name(endian) as usize..).unwrap_or(&[]);
            let name = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
            let start = section.sh_addr(endian);
            let addresses = start..start.saturating_add(section.sh_size(endian));
            let place = match name {
                b".eh_frame" => &mut found.eh_frame,
                b".eh_frame_hdr" => &mut found.eh_frame_hdr,
                b".debug_frame" => &mut found.debug_frame,
                b".text" => {
                    found.text = Some(addresses);
                    continue;
                }
                b".got" => {
                    found.got = Some(addresses);
                    continue;
                }
                b".gopclntab" => {
                    found.is_go = true;
                    continue;
                }
                _ => continue,
            };
            let compressed = elf::SHF_COMPRESSED.0;
            let flags: u64 = section.sh_flags(endian).0;
            let bytes = section.sh_size(endian);
            if flags & compressed != 0
                || bytes > SECTION_BYTES_MOST
                || section.sh_type(endian) == elf::SHT_NOBITS
            {
                continue;
            }
            let data = read(section.sh_offset(endian), bytes as usize)?;
            if data.len() as u64 == bytes {
                *place = Some(Section {
                    addresses,
                    data: data.into(),
                });
            }
        }
        found.entries = found.without_index();
        Ok(Some(found))
    }

    /// How a frame of the code at an address, in the file's own counting, is left; `None` where the file does not say.
    pub fn rule(&self, address: u64) -> Option<FrameRule> {
        let bases = self.bases();
        if let Some(entries) = &self.entries {
            let behind = entries.partition_point(|(range, _)| range.start <= address);
            let (range, offset) = entries.get(behind.checked_sub(1)?)?;
            if !range.contains(&address) {
                return None;
            }
            return match (&self.eh_frame, &self.debug_frame) {
                (Some(frames), _) => {
                    let frames = EhFrame::new(&frames.data, LittleEndian);
                    rule_of_entry(&frames, &bases, *offset, address)
                }
                (None, Some(frames)) => {
                    let frames = DebugFrame::new(&frames.data, LittleEndian);
                    rule_of_entry(&frames, &bases, *offset, address)
                }
                (None, None) => None,
            };
        }
        let (index, frames) = (self.eh_frame_hdr.as_ref()?, self.eh_frame.as_ref()?);
        let index = EhFrameHdr::new(&index.data, LittleEndian).parse(&bases, ADDRESS_BYTES);
        let frames = EhFrame::new(&frames.data, LittleEndian);
        let entry = index.ok()?.table()?.fde_for_address(
            &frames,
            &bases,
            address,
            EhFrame::cie_from_offset,
        );
        FrameRule::of(&frames, &bases, &entry.ok()?, address)
    }

    /// Whether there is a table at all.
    pub fn has_rules(&self) -> bool {
        self.eh_frame.is_some() || self.debug_frame.is_some()
    }

    fn bases(&self) -> BaseAddresses {
        let start = |range: &Option<Range<u64>>| range.as_ref().map_or(0, |range| range.start);
        let section = |section: &Option<Section>| {
            section
                .as_ref()
                .map_or(0, |section| section.addresses.start)
        };
        BaseAddresses::default()
            .set_text(start(&self.text))
            .set_got(start(&self.got))
            .set_eh_frame(section(&self.eh_frame))
            .set_eh_frame_hdr(section(&self.eh_frame_hdr))
    }

    /// The entries of a table that has no index.
    fn without_index(&self) -> Option<Vec<(Range<u64>, usize)>> {
        let mut entries = match (&self.eh_frame_hdr, &self.eh_frame, &self.debug_frame) {
            (Some(_), Some(_), _) => return None,
            (None, Some(frames), _) => {
                entries_of(&EhFrame::new(&frames.data, LittleEndian), &self.bases())
            }
            (_, None, Some(frames)) => {
                entries_of(&DebugFrame::new(&frames.data, LittleEndian), &self.bases())
            }
            (_, None, None) => Vec::new(),
        };
        entries.sort_by_key(|(range, _)| range.start);
        Some(entries)
    }
}

/// How a frame of the code at an address is left, as the entry at an offset of a table says.
fn rule_of_entry<'a, S>(
    table: &S,
    bases: &BaseAddresses,
    offset: usize,
    address: u64,
) -> Option<FrameRule>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: From<usize>,
{
    let entry = table.fde_from_offset(bases, offset.into(), S::cie_from_offset);
    FrameRule::of(table, bases, &entry.ok()?, address)
}

/// The entries of a table, by the code that they are of, as far as they can be read.
fn entries_of<'a, S>(table: &S, bases: &BaseAddresses) -> Vec<(Range<u64>, usize)>
where
    S: UnwindSection<Slice<'a>>,
{
    let mut found = Vec::new();
    let mut entries = table.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry {
            if let Ok(entry) = partial.parse(S::cie_from_offset) {
                let range = entry.initial_address()..entry.end_address();
                found.push((range, entry.offset()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caller, Registers};
    use proptest::prelude::*;

    fn own() -> UnwindTable {
        let file = File::open("/proc/self/exe").unwrap();
        UnwindTable::read(&file).unwrap().unwrap()
    }

    /// An address of code, as the program's own file counts.
    fn address_of(code: usize) -> u64 {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let exe = fs::read_link("/proc/self/exe").unwrap();
        let line = maps
            .lines()
            .find(|line| line.ends_with(exe.to_str().unwrap()));
        let start = line.unwrap().split('-').next().unwrap();
        code as u64 - u64::from_str_radix(start, 16).unwrap()
    }

    #[test]
    fn each_function_says_how_it_is_left() {
        let table = own();
        let address = address_of(each_function_says_how_it_is_left as *const () as usize);
        let rule = table.rule(address).unwrap();
        // At its first instruction, the address to which it returns is all that there is.
        let mut registers = Registers::new(address, 0x1000, 0x2000);
        let read = |address| (address == 0x1000).then_some(77);
        assert_eq!(rule.leave(&mut registers, &read), Some(Caller::Call(77)));
        assert_eq!(registers, Registers::new(77, 0x1008, 0x2000));
        // Where that cannot be read, nothing is known.
        assert_eq!(rule.leave(&mut registers, &read), None);
        assert_eq!(registers, Registers::new(77, 0x1008, 0x2000));
        assert_eq!(table.rule(0), None);
        assert_eq!(table.rule(u64::MAX), None);
        assert!(!table.is_go);
    }

    #[test]
    fn nothing_has_called_where_a_program_begins() {
        let image = fs::read("/proc/self/exe").unwrap();
        // `e_entry` of elf(5).
        let entry = u64::from_ne_bytes(image[24..32].try_into().unwrap());
        let rule = own().rule(entry).unwrap();
        let mut registers = Registers::new(entry, 0x1000, 0x2000);
        let read = |_| Some(77);
        assert_eq!(rule.leave(&mut registers, &read), Some(Caller::None));
    }

    #[test]
    fn a_table_without_an_index_says_the_same() {
        let table = own();
        let mut without = UnwindTable {
            eh_frame_hdr: None,
            ..table.clone()
        };
        without.entries = without.without_index();
        let text = table.text.clone().unwrap();
        let mut found = 0;
        for address in text.step_by(1021) {
            let rule = table.rule(address);
            assert_eq!(rule, without.rule(address), "{address:#x}");
            found += u32::from(rule.is_some());
        }
        assert!(found > 100, "{found}");
    }

    #[test]
    fn the_kernels_own_code_has_a_table() {
        let table = UnwindTable::of_vdso().unwrap().unwrap();
        let text = table.text.clone().unwrap();
        assert!(text.clone().any(|address| table.rule(address).is_some()));
    }

    #[test]
    fn what_is_no_elf_file_has_none() {
        let file = File::open("/proc/self/cmdline").unwrap();
        assert_eq!(UnwindTable::read(&file).unwrap(), None);
    }

    proptest! {
        #[test]
        fn damaged_tables_are_answered(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
            indexed in any::<bool>(),
        ) {
            let damaged = |section: Option<Section>| {
                section.map(|section| {
                    // As long as is quick.
                    let mut data = section.data[..section.data.len().min(4096)].to_vec();
                    for (at, byte) in &damage {
                        data[at.index(section.data.len().min(4096))] = *byte;
                    }
                    Section { data: data.into(), ..section }
                })
            };
            let own = own();
            let mut table = UnwindTable {
                eh_frame: damaged(own.eh_frame),
                eh_frame_hdr: if indexed { own.eh_frame_hdr } else { None },
                ..own
            };
            table.entries = table.without_index();
            for address in table.text.clone().unwrap().step_by(509).take(200) {
                if let Some(rule) = table.rule(address) {
                    let mut registers = Registers::new(address, 1 << 40, 1 << 41);
                    rule.leave(&mut registers, &|address| Some(address ^ 8));
                }
            }
        }
    }
}
