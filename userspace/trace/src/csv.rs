// SPDX-License-Identifier: GPL-2.0-only

//! The CSV of a recording.
//!
//! ```text
//! time_ns,cpu,pid,tid,address,ip,access,flags
//! 48120033187,1,412,412,0x7f0c5a2c4f90,0x7f0c5a2a1b23,w,user|vma-lock
//! ```
//!
//! Its first line is the header, so that programs open it without options. Where comments are asked for, lines that
//! begin with `#` stand before the header and behind the last fault:
//!
//! ```text
//! # fault-tracer 0.1.0
//! # kernel: Linux 7.2.12 x86_64
//! # command: ls -l
//! # clock: CLOCK_MONOTONIC
//! # wall_offset_ns: 1763714611000000000
//! # wall_error_ns: 200
//! # page_bytes: 4096
//! …
//! # hits=1 recorded=1 dropped=0 overwritten=0 missed=0
//! # lost: dropped=0 overwritten=0 missed=0
//! ```
//!
//! The last two tell how many faults were lost. In a file with comments, their absence tells that the recording was
//! cut off.
//!
//! Times are nanoseconds; the wall offset added to them gives nanoseconds since 1970, to the error either way,
//! as of the beginning. Addresses are hexadecimal, all else decimal. Process and thread ids are of the
//! initial pid namespace. `access` is `r`, `w` or `x`; `flags` are the names of
//! [`fault_flag::NAMES`] joined by `|` (a flag that has no name yet is written as `bit13`).

use std::{
    fmt::Write as _,
    io::{self, BufRead, Write},
};

use fault_tracer_uapi::{entry, fault_flag};

use crate::{fault::ACCESS_FLAGS, Access, Account, Fault, PageSize};

/// The line above the faults.
pub const HEADER: &str = "time_ns,cpu,pid,tid,address,ip,access,flags";

/// Separates the names of flags.
const SEPARATOR: char = '|';

/// Begins the name of a flag that has none, before the number of its bit.
const UNNAMED: &str = "bit";

// ---------------------------------------------------------------------------------------------
// Writing
// ---------------------------------------------------------------------------------------------

/// What a recording says of itself before its faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preamble {
    /// Version of the program that wrote it.
    pub version: String,
    /// The kernel it was recorded on.
    pub kernel: String,
    /// What was traced.
    pub command: String,
    /// The clock of the times.
    pub clock: String,
    /// See [`crate::Metadata::wall_offset_ns`].
    pub wall_offset_ns: i64,
    /// See [`crate::Metadata::wall_error_ns`].
    pub wall_error_ns: u64,
    /// See [`crate::Metadata::page_size`].
    pub page_size: PageSize,
}

/// Bytes that the writer gathers before it writes them out.
const BUFFER_BYTES: usize = 128 * 1024;

/// No line of a fault is longer: eight fields of at most 20 characters but for the flags, which are
/// at most the names of all.
const LINE_BYTES: usize = 512;

/// Writes a recording, line by line.
///
/// It gathers lines on its own: a buffered `out` gains nothing. What was gathered and not
/// [flushed](Writer::flush) is lost when the writer is dropped.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    buffer: Vec<u8>,
    comments: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a recording: the header line. With a preamble, that stands before it as comments, and the account
    /// behind the faults.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn new(out: W, preamble: Option<&Preamble>) -> io::Result<Self> {
        let mut writer = Self {
            out,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            comments: preamble.is_some(),
        };
        if let Some(preamble) = preamble {
            write_preamble(&mut writer.buffer, preamble)?;
        }
        writeln!(writer.buffer, "{HEADER}")?;
        writer.make_room()?;
        Ok(writer)
    }

    /// Writes a fault.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&mut self, fault: &Fault) -> io::Result<()> {
        push_fault(&mut self.buffer, fault);
        self.buffer.push(b'\n');
        self.make_room()
    }

    /// Ends the recording, with comments by its account, and writes out all that was gathered.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn finish(mut self, account: &Account) -> io::Result<W> {
        if self.comments {
            write_account(&mut self.buffer, account)?;
        }
        self.flush()?;
        Ok(self.out)
    }

    /// Writes out what was gathered.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.out.flush()
    }

    /// Writes out what was gathered if another line might not fit.
    fn make_room(&mut self) -> io::Result<()> {
        if self.buffer.len() > BUFFER_BYTES - LINE_BYTES {
            self.write_out()?;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.buffer);
        self.buffer.clear();
        result
    }
}

/// Writes the comments above the header.
pub(crate) fn write_preamble(
    out: &mut (impl Write + ?Sized),
    preamble: &Preamble,
) -> io::Result<()> {
    let Preamble {
        version,
        kernel,
        command,
        clock,
        wall_offset_ns,
        wall_error_ns,
        page_size,
    } = preamble;
    writeln!(
        out,
        "# fault-tracer {}\n# kernel: {}\n# command: {}\n# clock: {}\n\
         # wall_offset_ns: {wall_offset_ns}\n# wall_error_ns: {wall_error_ns}\n# page_bytes: {page_size}",
        one_line(version),
        one_line(kernel),
        one_line(command),
        one_line(clock)
    )
}

/// Writes the comments behind the faults.
pub(crate) fn write_account(out: &mut (impl Write + ?Sized), account: &Account) -> io::Result<()> {
    let Account {
        hits,
        recorded,
        dropped,
        overwritten,
        missed,
        sideband_dropped: _,
        deaf,
        passed_over,
    } = account;
    if *deaf != 0 {
        writeln!(
            out,
            "# deaf: the probe was switched off during the recording (found {deaf} times)"
        )?;
    }
    if *passed_over != 0 {
        writeln!(
            out,
            "# selection: {passed_over} more faults were seen, and passed over by the recording's filter"
        )?;
    }
    writeln!(
        out,
        "# hits={hits} recorded={recorded} dropped={dropped} overwritten={overwritten} \
         missed={missed}\n\
         # lost: dropped={dropped} overwritten={overwritten} missed={missed}"
    )
}

/// Writes the fields of a fault.
pub(crate) fn push_fault(buffer: &mut Vec<u8>, fault: &Fault) {
    let mut decimal = itoa::Buffer::new();
    buffer.extend_from_slice(decimal.format(fault.time_ns).as_bytes());
    for number in [fault.cpu, fault.pid, fault.tid] {
        buffer.push(b',');
        buffer.extend_from_slice(decimal.format(number).as_bytes());
    }
    for address in [fault.address, fault.ip] {
        buffer.push(b',');
        push_hex(buffer, address);
    }
    buffer.push(b',');
    buffer.push(fault.access.letter() as u8);
    buffer.push(b',');
    push_flags(buffer, fault.flags);
}

/// Replaces what would end a comment's line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Writes `0x` and the digits of a number, without leading zeros.
pub(crate) fn push_hex(buffer: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 18];
    let mut start = text.len();
    let mut rest = number;
    loop {
        start -= 1;
        text[start] = DIGITS[(rest & 15) as usize];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    start -= 2;
    text[start + 1] = b'x';
    buffer.extend_from_slice(&text[start..]);
}

/// Writes the names of flags.
pub(crate) fn push_flags(buffer: &mut Vec<u8>, flags: u16) {
    let mut rest = u64::from(flags);
    let mut first = true;
    let mut separate = |buffer: &mut Vec<u8>| {
        if !first {
            buffer.push(SEPARATOR as u8);
        }
        first = false;
    };
    for (flag, name) in fault_flag::NAMES {
        if rest & flag != 0 {
            separate(buffer);
            buffer.extend_from_slice(name.as_bytes());
            rest &= !flag;
        }
    }
    if let Some(name) = entry::name(flags.into()) {
        separate(buffer);
        buffer.extend_from_slice(name.as_bytes());
        rest &= !entry::MASK;
    }
    while rest != 0 {
        separate(buffer);
        buffer.extend_from_slice(UNNAMED.as_bytes());
        buffer.extend_from_slice(itoa::Buffer::new().format(rest.trailing_zeros()).as_bytes());
        rest &= rest - 1;
    }
}

// ---------------------------------------------------------------------------------------------
// Reading
// ---------------------------------------------------------------------------------------------

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file itself cannot be read.
    #[error("line {line}: the file cannot be read")]
    Io {
        /// Number of the line, from 1.
        line: u64,
        /// The reason.
        source: io::Error,
    },
    /// It ends before its header.
    #[error("there is no header line; expected {HEADER}")]
    NoHeader,
    /// It begins with something else.
    #[error(
        "line {line}: expected the header {HEADER}, found {found:?}; give the CSV that \
         'fault-tracer drain -o FILE' writes"
    )]
    NotOurs {
        /// Number of the line, from 1.
        line: u64,
        /// Its beginning.
        found: String,
    },
    /// A line that is no fault.
    #[error("line {line} is damaged: {what}; correct or delete that line, or record again")]
    Damaged {
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The last line is no fault and has no end: the program that wrote it was killed.
    #[error("line {line}, the last, is cut off ({what}): the recording ended abruptly")]
    CutOff {
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads a recording, fault by fault.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    comments: Vec<(String, String)>,
    account: Option<Account>,
    ended: bool,
}

/// More characters than this of a wrong line are not repeated in the error.
const FOUND_CHARS: usize = 60;

impl<R: BufRead> Reader<R> {
    /// Reads up to the header.
    ///
    /// # Errors
    ///
    /// [`ReadError::Io`], [`ReadError::NoHeader`], [`ReadError::NotOurs`].
    pub fn new(input: R) -> Result<Self, ReadError> {
        let mut reader = Self {
            input,
            line: Vec::new(),
            number: 0,
            comments: Vec::new(),
            account: None,
            ended: false,
        };
        loop {
            if !reader.next_line()? {
                return Err(ReadError::NoHeader);
            }
            if reader.take_comment() {
                continue;
            }
            if text_of(&reader.line) == HEADER.as_bytes() {
                return Ok(reader);
            }
            let found = String::from_utf8_lossy(text_of(&reader.line));
            return Err(ReadError::NotOurs {
                line: reader.number,
                found: found.chars().take(FOUND_CHARS).collect(),
            });
        }
    }

    /// The value of a comment of the form `# key: value`, among those read so far.
    pub fn comment(&self, key: &str) -> Option<&str> {
        self.comments
            .iter()
            .find(|(other, _)| other == key)
            .map(|(_, value)| value.as_str())
    }

    /// The account at the end of the recording; `None` before that, where it was cut off or has no comments.
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Reads the next line; false at the end.
    fn next_line(&mut self) -> Result<bool, ReadError> {
        self.line.clear();
        self.number += 1;
        self.input
            .read_until(b'\n', &mut self.line)
            .map(|bytes| bytes != 0)
            .map_err(|source| ReadError::Io {
                line: self.number,
                source,
            })
    }

    /// Whether the line is a comment or empty; keeps what it says.
    fn take_comment(&mut self) -> bool {
        match text_of(&self.line).split_first() {
            None => true,
            Some((b'#', comment)) => {
                let comment = String::from_utf8_lossy(comment);
                let comment = comment.trim();
                if let Some(account) = parse_account(comment) {
                    self.account = Some(account);
                } else if let Some((key, value)) = comment.split_once(':') {
                    self.comments
                        .push((key.trim().to_owned(), value.trim().to_owned()));
                }
                true
            }
            Some(_) => false,
        }
    }

    fn next_fault(&mut self) -> Result<Option<Fault>, ReadError> {
        loop {
            if !self.next_line()? {
                return Ok(None);
            }
            if self.take_comment() {
                continue;
            }
            let line = self.number;
            return match parse_fault(text_of(&self.line)) {
                Ok(fault) => Ok(Some(fault)),
                Err(what) if self.line.ends_with(b"\n") => Err(ReadError::Damaged { line, what }),
                Err(what) => Err(ReadError::CutOff { line, what }),
            };
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Fault, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_fault().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// A line without its end.
fn text_of(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Reads `hits=… recorded=… dropped=… overwritten=… missed=…`.
fn parse_account(comment: &str) -> Option<Account> {
    let mut words = comment.split_ascii_whitespace();
    let mut next = |name: &str| {
        let value = words.next()?.strip_prefix(name)?.strip_prefix('=')?;
        decimal::<u64>(value.as_bytes())
    };
    let account = Account {
        hits: next("hits")?,
        recorded: next("recorded")?,
        dropped: next("dropped")?,
        overwritten: next("overwritten")?,
        missed: next("missed")?,
        ..Account::default()
    };
    words.next().is_none().then_some(account)
}

/// Reads a fault's line; the error says what is wrong with it.
fn parse_fault(line: &[u8]) -> Result<Fault, String> {
    let mut fields = line.split(|&byte| byte == b',');
    let mut count = 0;
    let mut next = |name: &'static str| {
        count += 1;
        fields.next().map(|text| (name, text)).ok_or_else(|| {
            let expected = HEADER.split(',').count();
            format!("expected {expected} fields ({HEADER}), found {}", count - 1)
        })
    };
    let fault = Fault {
        time_ns: number(next("time_ns")?)?,
        cpu: number(next("cpu")?)?,
        pid: number(next("pid")?)?,
        tid: number(next("tid")?)?,
        address: address(next("address")?)?,
        ip: address(next("ip")?)?,
        access: access(next("access")?)?,
        flags: flags(next("flags")?)?,
    };
    if fields.next().is_some() {
        return Err(format!("more fields than those of {HEADER}"));
    }
    Ok(fault)
}

type Field<'a> = (&'static str, &'a [u8]);

/// The text of a field that could not be read.
fn shown((_, text): Field<'_>) -> String {
    format!("{:?}", String::from_utf8_lossy(text))
}

/// Reads digits alone: `parse` would take a sign too.
fn decimal<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn number<T: std::str::FromStr>(field: Field<'_>) -> Result<T, String> {
    decimal(field.1).ok_or_else(|| {
        format!(
            "{}: expected a decimal number of {} bits, found {}",
            field.0,
            size_of::<T>() * 8,
            shown(field)
        )
    })
}

fn address(field: Field<'_>) -> Result<u64, String> {
    let digits = field.1.strip_prefix(b"0x").filter(|digits| {
        (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit)
    });
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| {
            format!(
                "{}: expected a hexadecimal number of 64 bits with 0x, found {}",
                field.0,
                shown(field)
            )
        })
}

fn access(field: Field<'_>) -> Result<Access, String> {
    match field.1 {
        [letter] => Access::from_letter(char::from(*letter)),
        _ => None,
    }
    .ok_or_else(|| format!("{}: expected r, w or x, found {}", field.0, shown(field)))
}

fn flags(field: Field<'_>) -> Result<u16, String> {
    if field.1.is_empty() {
        return Ok(0);
    }
    let mut flags = 0;
    for name in field.1.split(|&byte| byte == SEPARATOR as u8) {
        flags |= flag(name).ok_or_else(|| {
            let mut known = String::new();
            let entries = entry::NAMES.map(|(_, _, name)| name);
            for name in fault_flag::NAMES
                .map(|(_, name)| name)
                .iter()
                .chain(&entries)
            {
                let _ = write!(known, " {name}");
            }
            format!(
                "{}: unknown flag {} (known are{known})",
                field.0,
                shown((field.0, name))
            )
        })?;
    }
    Ok(flags)
}

/// The flags of their names, as [`push_flags`] writes them.
pub(crate) fn parse_flags(text: &str) -> Option<u16> {
    if text.is_empty() {
        return Some(0);
    }
    let names = text.as_bytes().split(|&byte| byte == SEPARATOR as u8);
    names
        .map(flag)
        .try_fold(0, |flags, flag| Some(flags | flag?))
}

/// The bit of a flag's name.
fn flag(name: &[u8]) -> Option<u16> {
    // What an entry's name is reported beside has a name of its own.
    let entries = entry::NAMES.map(|(_, number, name)| (number, name));
    let named = fault_flag::NAMES
        .iter()
        .chain(&entries)
        .find(|(_, known)| known.as_bytes() == name)
        .map(|(flag, _)| *flag);
    let flag = named.or_else(|| {
        let bit = decimal::<u32>(name.strip_prefix(UNNAMED.as_bytes())?)?;
        1u64.checked_shl(bit)
    })?;
    // OnWritten by the access, and in no name.
    if flag & ACCESS_FLAGS != 0 {
        return None;
    }
    u16::try_from(flag).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn preamble() -> Preamble {
        Preamble {
            version: "1.2.3".into(),
            kernel: "Linux 7.2.12 x86_64".into(),
            command: "ls -l".into(),
            clock: "CLOCK_MONOTONIC".into(),
            wall_offset_ns: -7,
            wall_error_ns: 2,
            page_size: PageSize::of_bytes(16 << 10).unwrap(),
        }
    }

    fn fault() -> Fault {
        Fault {
            time_ns: 48_120_033_187,
            cpu: 1,
            pid: 412,
            tid: 413,
            address: 0x7f0c_5a2c_4f90,
            ip: 0,
            access: Access::Write,
            flags: (fault_flag::USER | fault_flag::VMA_LOCK) as u16,
        }
    }

    fn written(faults: &[Fault], account: &Account) -> String {
        let mut writer = Writer::new(Vec::new(), Some(&preamble())).unwrap();
        for fault in faults {
            writer.write(fault).unwrap();
        }
        String::from_utf8(writer.finish(account).unwrap()).unwrap()
    }

    fn read(text: &str) -> Result<Vec<Fault>, ReadError> {
        Reader::new(text.as_bytes())?.collect()
    }

    #[test]
    fn the_header_is_the_first_line_and_all_else_are_faults() {
        let mut writer = Writer::new(Vec::new(), None).unwrap();
        writer.write(&fault()).unwrap();
        let text = writer.finish(&Account::default()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "time_ns,cpu,pid,tid,address,ip,access,flags\n\
             48120033187,1,412,413,0x7f0c5a2c4f90,0x0,w,user|vma-lock\n"
        );
        assert_eq!(read(&text).unwrap(), [fault()]);
    }

    #[test]
    fn a_recording_with_comments_looks_like_this() {
        let account = Account {
            hits: 6,
            recorded: 1,
            dropped: 2,
            overwritten: 3,
            missed: 4,
            ..Account::default()
        };
        assert_eq!(
            written(&[fault()], &account),
            "# fault-tracer 1.2.3\n\
             # kernel: Linux 7.2.12 x86_64\n\
             # command: ls -l\n\
             # clock: CLOCK_MONOTONIC\n\
             # wall_offset_ns: -7\n\
             # wall_error_ns: 2\n\
             # page_bytes: 16384\n\
             time_ns,cpu,pid,tid,address,ip,access,flags\n\
             48120033187,1,412,413,0x7f0c5a2c4f90,0x0,w,user|vma-lock\n\
             # hits=6 recorded=1 dropped=2 overwritten=3 missed=4\n\
             # lost: dropped=2 overwritten=3 missed=4\n"
        );
    }

    #[test]
    fn comments_stay_on_their_line() {
        let odd = Preamble {
            command: "echo 'a\nb'\t\u{1b}".into(),
            ..preamble()
        };
        let text = Writer::new(Vec::new(), Some(&odd))
            .unwrap()
            .finish(&Account::default())
            .unwrap();
        let reader = Reader::new(&*text).unwrap();
        assert_eq!(reader.comment("command"), Some("echo 'a\\nb'\\t\\u{1b}"));
    }

    #[test]
    fn what_was_said_before_and_after_the_faults_is_read() {
        let account = Account {
            hits: 1,
            recorded: 1,
            ..Default::default()
        };
        let text = written(&[fault()], &account);
        let mut reader = Reader::new(text.as_bytes()).unwrap();
        assert_eq!(reader.comment("kernel"), Some("Linux 7.2.12 x86_64"));
        assert_eq!(reader.comment("clock"), Some("CLOCK_MONOTONIC"));
        assert_eq!(reader.comment("nothing"), None);
        assert_eq!(reader.account(), None);
        assert_eq!(reader.next().unwrap().unwrap(), fault());
        assert!(reader.next().is_none());
        assert_eq!(reader.account(), Some(&account));
        assert_eq!(
            reader.comment("lost"),
            Some("dropped=0 overwritten=0 missed=0")
        );
    }

    #[test]
    fn all_lines_fit_in_what_is_reserved() {
        let longest = Fault {
            time_ns: u64::MAX,
            cpu: u32::MAX,
            pid: u32::MAX,
            tid: u32::MAX,
            address: u64::MAX,
            ip: u64::MAX,
            access: Access::Execute,
            flags: !(ACCESS_FLAGS as u16),
        };
        let mut writer = Writer::new(Vec::new(), Some(&preamble())).unwrap();
        let before = writer.buffer.len();
        writer.write(&longest).unwrap();
        assert!(writer.buffer.len() - before <= LINE_BYTES);
    }

    #[test]
    fn a_failing_output_is_reported() {
        let mut full = Writer::new(io::Cursor::new([0u8; 512]), Some(&preamble())).unwrap();
        let result = (0..10_000).try_for_each(|_| full.write(&fault()));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn what_is_not_a_recording_is_refused() {
        assert!(matches!(read(""), Err(ReadError::NoHeader)));
        assert!(matches!(read("# only: this\n"), Err(ReadError::NoHeader)));
        let error = read("# a\nPID,COMMAND\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2: expected the header") && error.contains("PID,COMMAND"));
    }

    #[test]
    fn damage_is_named_with_its_line_and_field() {
        let cases = [
            ("1,2,3", "expected 8 fields"),
            ("1,2,3,4,0x1,0x2,r,user,9", "more fields"),
            (
                "-1,2,3,4,0x1,0x2,r,",
                "time_ns: expected a decimal number of 64 bits, found \"-1\"",
            ),
            ("+1,2,3,4,0x1,0x2,r,", "time_ns"),
            (
                "1,2,3,4294967296,0x1,0x2,r,",
                "tid: expected a decimal number of 32 bits",
            ),
            ("1,2,3,4,16,0x2,r,", "address: expected a hexadecimal"),
            ("1,2,3,4,0x1,0x,r,", "ip: expected a hexadecimal"),
            ("1,2,3,4,0x1,0x+2,r,", "ip"),
            (
                "1,2,3,4,0x1,0x2,rw,",
                "access: expected r, w or x, found \"rw\"",
            ),
            ("1,2,3,4,0x1,0x2,r,user|", "flags: unknown flag \"\""),
            (
                "1,2,3,4,0x1,0x2,r,loud",
                "flags: unknown flag \"loud\" (known are present file",
            ),
            ("1,2,3,4,0x1,0x2,r,bit16", "bit16"),
            ("1,2,3,4,0x1,0x2,r,bit0", "bit0"),
            ("1,2,3,4,0x1,0x2,r,bit64", "bit64"),
        ];
        for (line, expected) in cases {
            let error = read(&format!("{HEADER}\n{line}\n")).unwrap_err();
            assert!(
                matches!(error, ReadError::Damaged { line: 2, .. }),
                "{line}"
            );
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn a_cut_off_recording_gives_what_it_has() {
        let text = format!("{HEADER}\n1,2,3,4,0x1,0x2,r,\n5,6,7");
        let mut reader = Reader::new(text.as_bytes()).unwrap();
        assert!(reader.next().unwrap().is_ok());
        assert!(matches!(
            reader.next(),
            Some(Err(ReadError::CutOff { line: 3, .. }))
        ));
        assert!(reader.next().is_none());
    }

    #[test]
    fn foreign_line_ends_and_empty_lines_do_no_harm() {
        let text = format!("{HEADER}\r\n\r\n1,2,3,4,0x1,0x2,r,\r\n\n");
        assert_eq!(read(&text).unwrap().len(), 1);
    }

    fn any_fault() -> impl Strategy<Value = Fault> {
        (
            any::<(u64, u32, u32, u32, u64, u64, u16)>(),
            prop::sample::select(&Access::ALL),
        )
            .prop_map(
                |((time_ns, cpu, pid, tid, address, ip, flags), access)| Fault {
                    time_ns,
                    cpu,
                    pid,
                    tid,
                    address,
                    ip,
                    access,
                    flags: flags & !(ACCESS_FLAGS as u16),
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            faults in prop::collection::vec(any_fault(), 0..50),
            (hits, recorded, dropped, overwritten, missed) in any::<(u64, u64, u64, u64, u64)>(),
        ) {
            let account = Account { hits, recorded, dropped, overwritten, missed, ..Account::default() };
            let text = written(&faults, &account);
            let mut reader = Reader::new(text.as_bytes()).unwrap();
            let back: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
            prop_assert_eq!(back, faults);
            prop_assert_eq!(reader.account(), Some(&account));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(time_ns,|[0-9a-fx,|#: \\n]|user){0,200}") {
            let _ = read(&format!("{HEADER}\n{text}"));
        }
    }
}
