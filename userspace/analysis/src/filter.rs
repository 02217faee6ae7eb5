// SPDX-License-Identifier: GPL-2.0-only

//! Chooses faults: `kind=zero-fill,copy-on-write mapping~libc time<2s`.
//!
//! Terms are separated by blanks, and all must match. A term is a key, an operator and a value: `=` and `!=` compare
//! with each of the values that commas separate, `~` and `!~` look for a part of the text, `<`, `<=`, `>` and `>=`
//! compare numbers. A value with blanks stands in quotation marks.

use std::fmt;

use fault_tracer_trace::{Fate, Kind, ResolvedFault};

use crate::keys::{Context, Found, Key};

/// What a fault must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    subject: Subject,
    operator: Operator,
    texts: Vec<String>,
    /// Of the texts, where the operator or the key compares numbers.
    numbers: Vec<u64>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Key(Key),
    /// How long the fault took.
    Duration,
    Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    Contains,
    ContainsNot,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer ones first: one may begin as another.
const OPERATORS: [(&str, Operator); 8] = [
    ("!=", Operator::IsNot),
    ("!~", Operator::ContainsNot),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Is),
    ("~", Operator::Contains),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// Why a filter is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    term: String,
    problem: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the filter's term \"{}\" {}", self.term, self.problem)
    }
}

impl std::error::Error for FilterError {}

impl Filter {
    /// Reads a filter; the empty one matches all.
    ///
    /// # Errors
    ///
    /// A sentence that names the term and what would be right.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let terms: Result<_, _> = words(text)?.iter().map(|word| term(word)).collect();
        Ok(Self { terms: terms? })
    }

    /// Whether it matches all faults.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a fault matches. What is not known of a fault is neither equal to anything, nor does it contain anything.
    pub fn matches(&self, fault: &ResolvedFault, context: &mut Context) -> bool {
        self.terms.iter().all(|term| term.matches(fault, context))
    }
}

impl Term {
    fn matches(&self, fault: &ResolvedFault, context: &mut Context) -> bool {
        let found = match self.subject {
            Subject::Key(key) => key.find(fault, context),
            Subject::Duration => fault.duration_ns.map_or(Found::Unknown, Found::Number),
            Subject::Address => Found::Number(fault.fault.address),
        };
        let number = match found {
            Found::Number(number) => Some(number),
            _ => None,
        };
        let is = || match number {
            Some(number) => self.numbers.contains(&number),
            None => found
                .text()
                .is_some_and(|found| self.texts.iter().any(|text| text == found)),
        };
        let contains = || {
            found
                .text()
                .is_some_and(|found| self.texts.iter().any(|text| found.contains(&**text)))
        };
        let compare = |holds: fn(u64, u64) -> bool| {
            number.is_some_and(|number| self.numbers.iter().all(|bound| holds(number, *bound)))
        };
        match self.operator {
            Operator::Is => is(),
            Operator::IsNot => !is(),
            Operator::Contains => contains(),
            Operator::ContainsNot => !contains(),
            Operator::Less => compare(|number, bound| number < bound),
            Operator::LessOrEqual => compare(|number, bound| number <= bound),
            Operator::Greater => compare(|number, bound| number > bound),
            Operator::GreaterOrEqual => compare(|number, bound| number >= bound),
        }
    }
}

/// Splits at blanks that stand in no quotation marks, which are taken away.
fn words(text: &str) -> Result<Vec<String>, FilterError> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut started = false;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), letter) => word.push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                started = true;
            }
            (None, letter) if letter.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            (None, letter) => {
                word.push(letter);
                started = true;
            }
        }
    }
    if quote.is_some() {
        return Err(FilterError {
            term: word,
            problem: "has a quotation mark that is not closed".into(),
        });
    }
    if started {
        words.push(word);
    }
    Ok(words)
}

fn term(word: &str) -> Result<Term, FilterError> {
    let error = |problem: String| FilterError {
        term: word.to_owned(),
        problem,
    };
    let at = word.find(['=', '~', '<', '>', '!']);
    let split = at.and_then(|at| {
        let rest = &word[at..];
        let (sign, operator) = OPERATORS
            .into_iter()
            .find(|(sign, _)| rest.starts_with(sign))?;
        Some((&word[..at], operator, &rest[sign.len()..]))
    });
    let Some((name, operator, value)) = split else {
        return Err(error(
            "has no operator: write KEY=VALUE, KEY!=VALUE, KEY~PART, KEY!~PART, KEY<NUMBER or KEY>NUMBER".into(),
        ));
    };
    let mut subject = match name {
        "duration" => Subject::Duration,
        "address" => Subject::Address,
        _ => Subject::Key(Key::from_name(name).ok_or_else(|| {
            error(format!(
                "names no key: the keys are {}, duration and address",
                Key::names()
            ))
        })?),
    };
    if value.is_empty() {
        return Err(error("has no value behind its operator".into()));
    }
    let texts: Vec<String> = value.split(',').map(str::to_owned).collect();
    // `kind=major` is what people write.
    if subject == Subject::Key(Key::Kind)
        && texts
            .iter()
            .all(|text| Fate::ALL.iter().any(|fate| fate.name() == text))
    {
        subject = Subject::Key(Key::Fate);
    }
    let is_number = match subject {
        Subject::Duration | Subject::Address => true,
        Subject::Key(key) => key.is_number(),
    };
    let compares = matches!(
        operator,
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual
    );
    if compares && !is_number {
        return Err(error(format!(
            "compares text by size: {name} is compared by =, !=, ~ and !~"
        )));
    }
    if !compares && is_number && matches!(operator, Operator::Contains | Operator::ContainsNot) {
        return Err(error(format!(
            "looks for a part of a number: {name} is compared by =, !=, <, <=, > and >="
        )));
    }
    if matches!(operator, Operator::Is | Operator::IsNot) {
        if let Some(names) = names_of(subject) {
            if let Some(wrong) = texts.iter().find(|text| !names.contains(&text.as_str())) {
                return Err(error(format!(
                    "has no {name} {wrong}: there are {}",
                    names.join(", ")
                )));
            }
        }
    }
    let mut numbers = Vec::new();
    if is_number {
        type Reader = fn(&str) -> Option<u64>;
        let (read, what): (Reader, _) = match subject {
            Subject::Duration | Subject::Key(Key::Time) => {
                (time, "needs a time such as 20us, 1.5ms or 2s")
            }
            Subject::Key(Key::Size) => (size, "needs a size such as 4K, 64K, 2M or 1G"),
            _ => (plain, "needs a number"),
        };
        for text in &texts {
            numbers.push(read(text).ok_or_else(|| error(what.into()))?);
        }
    }
    Ok(Term {
        subject,
        operator,
        texts,
        numbers,
    })
}

/// The values that a subject can have, where these are few.
fn names_of(subject: Subject) -> Option<Vec<&'static str>> {
    use fault_tracer_trace::Access;
    match subject {
        Subject::Key(Key::Kind) => Some(Kind::ALL.map(Kind::name).to_vec()),
        Subject::Key(Key::Fate) => Some(Fate::ALL.map(Fate::name).to_vec()),
        Subject::Key(Key::Access) => Some(Access::ALL.map(Access::name).to_vec()),
        _ => None,
    }
}

/// A decimal or hexadecimal number.
fn plain(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A size in bytes: `4096`, `4K`, `2M`, `1G`.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    plain(digits)?.checked_mul(1 << shift)
}

/// A time in nanoseconds: `5`, `20us`, `1.5ms`, `2s`.
fn time(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    let number: f64 = digits.parse().ok()?;
    // CAST: it saturates.
    (number >= 0.0).then_some((number * unit).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fault, Builder};
    use fault_tracer_trace::{Access, Kind, Nodes};
    use proptest::prelude::*;

    fn matches(filter: &str, fault: Builder) -> bool {
        let filter = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        let mut context = Context {
            symbols: &mut (),
            start_ns: 1000,
            nodes: &Nodes::parse("0:0-1 1:2-3").unwrap(),
            stacks: &Default::default(),
        };
        filter.matches(&fault.build(), &mut context)
    }

    #[test]
    fn sizes_have_units() {
        let huge = || fault().mapped(2 << 20);
        for filter in [
            "size=2M",
            "size>4K",
            "size<=2097152",
            "size=4K,2048K",
            "size<1G",
        ] {
            assert!(matches(filter, huge()), "{filter}");
        }
        assert!(!matches("size=4K", huge()));
        // Of a fault whose page is not known, nothing is said.
        assert!(!matches("size=4K", fault()) && !matches("size>4K", fault()));
        let wrong = Filter::parse("size=2T").unwrap_err().to_string();
        assert!(wrong.contains("such as 4K, 64K, 2M or 1G"), "{wrong}");
    }

    #[test]
    fn terms_match_as_they_say() {
        let fault = || {
            fault()
                .pid(42)
                .time(1_000_001_000)
                .process("Web Content")
                .mapping("/usr/lib/libc.so.6")
                .kind(Kind::FileExecute)
                .access(Access::Execute)
                .fate(Fate::Major)
                .took(25_000)
                .page(0x7f00)
        };
        for filter in [
            "",
            "kind=file-exec",
            "kind=zero-fill,file-exec",
            "kind=major",
            "kind!=minor fate=major",
            "mapping~libc file~lib mapping!~firefox",
            "process='Web Content' process=\"Web Content\"",
            "pid=42 pid!=43 tid=7,42",
            "duration>20us duration<=25us duration>=25000 duration<0.1ms",
            "time=1s time<1.5s time>999ms",
            "address=0x7f00000 address>=0x7f00000",
            "access=execute cpu=0",
            "symbol!=main symbol!~main",
        ] {
            assert!(matches(filter, fault()), "{filter}");
        }
        for filter in [
            "kind=file-read",
            "kind=minor",
            "kind=file-exec mapping~firefox",
            "process=Web",
            "pid!=42",
            "pid=4",
            "duration>25us",
            "time>1s",
            "symbol=main",
            "symbol~m",
            "program=x",
        ] {
            assert!(!matches(filter, fault()), "{filter}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_compared() {
        assert!(!matches("duration>0", fault()) && !matches("duration<1s", fault()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (filter, part) in [
            ("mapping", "no operator"),
            ("colour=red", "the keys are process, pid"),
            ("kind=read", "has no kind read: there are hugetlb"),
            ("kind=", "no value"),
            ("mapping>5", "compared by =, !=, ~ and !~"),
            ("pid~4", "part of a number"),
            ("pid=x", "needs a number"),
            ("duration>5min", "needs a time"),
            ("duration>-1", "needs a time"),
            ("process='Web", "not closed"),
            ("!", "no operator"),
        ] {
            let error = Filter::parse(filter).expect_err(filter).to_string();
            assert!(error.contains(part), "{filter}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_refused(text in ".{0,60}") {
            if let Ok(filter) = Filter::parse(&text) {
                let nodes = Nodes::default();
                let mut context = Context { symbols: &mut (), start_ns: 0, nodes: &nodes, stacks: &Default::default() };
                let _ = filter.matches(&fault().build(), &mut context);
            }
        }
    }
}
