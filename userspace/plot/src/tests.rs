// SPDX-License-Identifier: GPL-2.0-only

//! From rows to pictures: places, sums, encoding, texts.

use std::{convert::Infallible, io::Read as _};

use fault_tracer_trace::{export::Bands as _, Fate, Kind, Metadata, PageSize, Row, ThreadEvent};
use flate2::read::ZlibDecoder;
use proptest::prelude::*;

use crate::{
    encode::{mark_chunk, raw_chunk, text, Less, CHUNK_FAULTS},
    input::{Processes, What, NO_DURATION},
    page,
    page::json_bytes,
    pdf, png,
    pyramid::pyramid,
    raster::{heights, weights, Raster},
    sample::{event, fault, many, scene, scene_of},
    scene::{Scene, Trend},
    svg, terminal, Error, PageOptions, Size,
};

fn address(scene: &Scene, index: usize) -> u64 {
    let base = scene.bases[scene.place[index] as usize];
    base.wrapping_add(u64::from(scene.y[index]))
        .wrapping_mul(scene.metadata.page_size.bytes())
        .wrapping_add(u64::from(scene.low[index]))
}

fn row(fault: fault_tracer_trace::ResolvedFault) -> Row {
    Row::Fault(Box::new(fault))
}

#[test]
fn files_lie_over_each_other_by_their_offsets() {
    let file = |offset| Some(("/lib/a.so", "r-xp", Some(offset)));
    let mut other = fault(2, 0x7e55_0000_3000, file(0x3000));
    other.fault.pid = 8;
    let scene = scene(vec![
        row(fault(1, 0x7f00_0000_3123, file(0x3123))),
        row(other),
    ])
    .unwrap();
    assert_eq!(scene.panels.len(), 1);
    assert_eq!(scene.y[0], scene.y[1]);
    assert_eq!(address(&scene, 0), 0x7f00_0000_3123);
    assert_eq!(address(&scene, 1), 0x7e55_0000_3000);
    assert_eq!(scene.panels[0].segments[0].page, 3);
}

#[test]
fn pages_are_those_of_the_traced_machine() {
    // 300 KiB of a file, and the last byte of the page behind it.
    for (bytes, pages) in [(4 << 10, 76), (16 << 10, 19), (64 << 10, 5)] {
        let file = |offset| Some(("/lib/a.so", "r-xp", Some(offset)));
        let last = 300 << 10;
        let rows = [0, 0x1234, last]
            .map(|offset| row(fault(offset, 0x7f00_0010_0000 + offset, file(offset))));
        let page_size = PageSize::of_bytes(bytes).unwrap();
        let scene = scene_of(rows.to_vec(), page_size).unwrap();
        assert_eq!(scene.panels[0].pages, pages, "{bytes}");
        assert_eq!(u64::from(scene.y[1]), 0x1234 / bytes);
        let places: Vec<_> = (0..3).map(|index| address(&scene, index)).collect();
        assert_eq!(
            places,
            [0, 0x1234, last].map(|offset| 0x7f00_0010_0000 + offset)
        );
        let mut bands = scene.bands();
        let offsets = [(); 3].map(|()| bands.next().unwrap().offset);
        assert_eq!(offsets, [0, 0x1234, last]);
    }
    // The base of a mapping is whole pages of that machine: what is none has no panel of its own.
    let odd = |page_size| {
        let rows = vec![row(fault(
            1,
            0x7f00_0000_1000,
            Some(("/lib/a.so", "r-xp", Some(0))),
        ))];
        scene_of(rows, page_size).unwrap().panels[0].group.is_file()
    };
    assert!(odd(PageSize::default()));
    assert!(!odd(PageSize::of_bytes(64 << 10).unwrap()));
}

#[test]
fn holes_are_cut_and_addresses_kept() {
    let anon = Some(("[anon]", "rw-p", None));
    let addresses = [
        0x7f00_0000_0000,
        0x7f00_0000_5000,
        0x7f40_0000_0000,
        0x7f40_0000_1fff,
    ];
    let rows = addresses.iter().enumerate();
    let rows = rows
        .map(|(time, &address)| row(fault(time as u64, address, anon)))
        .collect();
    let scene = scene(rows).unwrap();
    let panel = &scene.panels[0];
    assert!(panel.pages < 20, "{}", panel.pages);
    assert_eq!(panel.segments.len(), 2);
    assert_eq!(panel.segments[1].page, 0x7_f400_0000);
    assert!(scene.y.is_sorted());
    for (index, wanted) in addresses.into_iter().enumerate() {
        assert_eq!(address(&scene, index), wanted);
    }
}

#[test]
fn address_spaces_are_aligned_at_the_edge_they_grow_from() {
    let stack = |pid, time, address| {
        let mut fault = fault(time, address, Some(("[stack]", "rw-p", None)));
        fault.fault.pid = pid;
        row(fault)
    };
    let scene = scene(vec![
        stack(7, 1, 0x7ffd_0000_9000),
        stack(7, 2, 0x7ffd_0000_8000),
        stack(8, 3, 0x7ff1_0000_4000),
        event(ThreadEvent::Fork, 4, 9, 8),
        stack(9, 5, 0x7ff1_0000_4000),
        stack(9, 6, 0x7ff1_0000_2000),
    ])
    .unwrap();
    assert_eq!(scene.panels[0].spaces, 2, "a fork has its parent's layout");
    assert_eq!(scene.y, [2, 1, 2, 2, 0]);
}

#[test]
fn attempts_belong_to_the_fault_that_ends_them() {
    let mut attempt = fault(1, 0x1000, None);
    attempt.fate = Fate::Retried;
    let scene = scene(vec![
        row(attempt.clone()),
        row(attempt),
        row(fault(3, 0x1000, None)),
        row(fault(4, 0x2000, None)),
    ])
    .unwrap();
    assert_eq!(scene.faults(), 2);
    assert_eq!(scene.attempts.get(&0), Some(&3));
    assert_eq!(scene.attempts.get(&1), None);
}

#[test]
fn rows_out_of_order_are_put_in_order() {
    let scene = scene(vec![
        row(fault(30, 0x3000, None)),
        row(fault(10, 0x1000, None)),
        row(fault(20, 0x2000, None)),
    ])
    .unwrap();
    assert_eq!(scene.time, [0, 10, 20]);
    assert_eq!(address(&scene, 1), 0x2000);
}

#[test]
fn nothing_to_draw_is_said() {
    let error = scene(vec![event(ThreadEvent::Exit, 1, 7, 1)])
        .err()
        .unwrap();
    assert!(matches!(error, Error::Empty));
    assert!(error.to_string().contains("no faults"));
}

#[test]
fn recordings_of_years_are_counted_in_coarser_steps() {
    let scene = scene(vec![
        row(fault(0, 0x1000, None)),
        row(fault(u64::MAX, 0x1000, None)),
    ])
    .unwrap();
    assert!(scene.span <= 1 << 53);
    assert!(scene.step_ns >= 1000);
}

/// Reads chunks as assets/decode.js does.
struct Decoder(Vec<Vec<u8>>);

impl Decoder {
    fn new(chunk: &[u8]) -> Self {
        let mut bytes = Vec::new();
        ZlibDecoder::new(chunk).read_to_end(&mut bytes).unwrap();
        let mut sections = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let (section, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
            sections.push(section.to_vec());
            rest = behind;
        }
        Self(sections)
    }

    fn planes(&self, section: usize, count: usize) -> Vec<u64> {
        let bytes = &self.0[section];
        (0..count)
            .map(|index| {
                (0..usize::from(bytes[0]))
                    .map(|plane| u64::from(bytes[1 + plane * count + index]) << (8 * plane))
                    .sum()
            })
            .collect()
    }

    fn varints(&self, section: usize, from: usize) -> std::vec::IntoIter<u64> {
        let mut values = Vec::new();
        let (mut value, mut bits) = (0u64, 0);
        for &byte in &self.0[section][from..] {
            value |= u64::from(byte & 0x7f) << bits;
            bits += 7;
            if byte < 0x80 {
                values.push(value);
                (value, bits) = (0, 0);
            }
        }
        values.into_iter()
    }
}

/// Bytes as bits, the lowest first, and how many were read.
struct Bits<'a>(&'a [u8], usize);

impl Bits<'_> {
    fn next(&mut self, count: u64) -> u64 {
        (0..count)
            .map(|bit| {
                let value = self.0[self.1 / 8] >> (self.1 % 8) & 1;
                self.1 += 1;
                u64::from(value) << bit
            })
            .sum()
    }
}

/// The bytes of a text of the page.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for character in text.chars() {
        bits |= (character as u32 & 0x7f) << count;
        count += 7;
        if count >= 8 {
            bytes.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    }
    bytes
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[test]
fn raw_chunks_say_every_fault() {
    let scene = many(3000);
    let range = 500..2500;
    let count = range.len();
    let decoder = Decoder::new(&raw_chunk(&scene, range.clone(), Less::default()));
    assert_eq!(decoder.0.len(), 11);
    let threads: Vec<u64> = decoder.varints(2, 0).collect();
    let columns = (
        decoder.planes(0, count),
        decoder.planes(1, count),
        decoder.planes(3, count),
    );
    let low = decoder.planes(8, count);
    let heads = decoder.planes(9, count);
    let mut rest = Bits(&decoder.0[9], 8 * (1 + decoder.0[9][0] as usize * count));
    let (mut ys, mut places) = (decoder.varints(4, 0), decoder.varints(5, 0));
    let mut last = std::collections::HashMap::new();
    let mut time = 0;
    for (at, index) in range.enumerate() {
        time += columns.0[at];
        assert_eq!(time, scene.time[index]);
        assert_eq!(columns.1[at], u64::from(scene.class[index]));
        assert_eq!(
            threads[columns.2[at] as usize],
            u64::from(scene.thread[index])
        );
        let panel = scene.classes[scene.class[index] as usize].panel;
        let (y, place) = last.entry((columns.2[at], panel)).or_insert((0, u64::MAX));
        *y += unzigzag(ys.next().unwrap());
        match places.next().unwrap() {
            0 => {}
            code => *place = code - 1,
        }
        assert_eq!(
            (*y, *place),
            (i64::from(scene.y[index]), u64::from(scene.place[index]))
        );
        assert_eq!(low[at], u64::from(scene.low[index]));
        let duration = match heads[at] {
            0 => NO_DURATION,
            head => match ((head - 1) >> 3, (head - 1) & 7) {
                (length @ 0..=3, digits) => {
                    assert!(digits < 1 << length);
                    digits
                }
                (4, digits) => 8 + digits,
                (length, digits) => ((8 + digits) << (length - 4)) + rest.next(length - 4),
            },
        };
        assert_eq!(duration, scene.duration_ns[index]);
    }
    assert_eq!(ys.next().or(places.next()), None);
    assert_eq!(rest.1.div_ceil(8), decoder.0[9].len());
    let less = |low, durations| Decoder::new(&raw_chunk(&scene, 0..10, Less { low, durations }));
    let (all, some) = (less(false, false), less(true, false));
    assert!(some.0[8].is_empty() && some.0[9] == all.0[9]);
    let none = less(true, true);
    assert_eq!(none.0[9].len(), 11, "a plane of heads");
}

#[test]
fn sums_in_a_box_are_exact_at_every_level() {
    let scene = many(40_000);
    let levels = pyramid(&scene);
    assert!(levels.len() >= 2);
    assert!(levels[1].threads && !levels[0].threads);
    for level in &levels {
        // A box of whole cells: all marks in it, against the faults themselves.
        let columns = scene.span >> level.column_bits;
        let (from, to) = (columns / 3, columns / 2);
        for panel in 0..scene.panels.len() {
            let bits = level.row_bits[panel];
            let top = ((scene.panels[panel].pages - 1) >> bits) as u32;
            let (low, high) = (top / 4, top / 2 + 1);
            let in_panel = |class: u32| scene.classes[class as usize].panel as usize == panel;
            let marks = level.marks.iter().filter(|mark| {
                (from..to).contains(&mark.column)
                    && (low..high).contains(&mark.row)
                    && in_panel(mark.class)
            });
            let faults = (0..scene.faults()).filter(|&index| {
                (from..to).contains(&(scene.time[index] >> level.column_bits))
                    && (low..high).contains(&(scene.y[index] >> bits))
                    && in_panel(scene.class[index])
            });
            let (mut count, mut time, mut timed) = (0, 0, 0);
            for mark in marks {
                count += mark.count as usize;
                time += mark.duration_ns;
                timed += mark.durations as usize;
            }
            let faults: Vec<usize> = faults.collect();
            let durations = faults.iter().map(|&index| scene.duration_ns[index]);
            let known: Vec<u64> = durations
                .filter(|&duration| duration != NO_DURATION)
                .collect();
            assert_eq!(count, faults.len());
            assert_eq!((time, timed), (known.iter().sum::<u64>(), known.len()));
        }
        // And by class and thread over everything.
        let mut by_class = vec![0u64; scene.classes.len()];
        let mut by_thread = vec![0u64; scene.threads.len()];
        for mark in &level.marks {
            by_class[mark.class as usize] += u64::from(mark.count);
            by_thread[mark.thread as usize] += u64::from(mark.count);
        }
        assert_eq!(by_class, scene.class_counts());
        if level.threads {
            assert_eq!(by_thread, scene.thread_counts());
        }
    }
}

#[test]
fn marks_are_encoded_in_order() {
    let scene = many(5000);
    let level = &pyramid(&scene)[1];
    let count = level.marks.len();
    let decoder = Decoder::new(&mark_chunk(&level.marks, true));
    let (mut columns, mut rows) = (decoder.varints(0, 0), decoder.varints(3, 0));
    let counts: Vec<u64> = decoder.varints(4, 0).collect();
    let (classes, threads) = (decoder.planes(1, count), decoder.planes(2, count));
    let (mut column, mut row) = (0, 0);
    for (index, mark) in level.marks.iter().enumerate() {
        column += columns.next().unwrap();
        row += unzigzag(rows.next().unwrap());
        let decoded = (
            column,
            row as u32,
            classes[index],
            threads[index],
            counts[index],
        );
        let wanted = (
            mark.column,
            mark.row,
            u64::from(mark.class),
            u64::from(mark.thread),
            u64::from(mark.count),
        );
        assert_eq!(decoded, wanted);
    }
}

fn page_text(scene: &Scene, options: PageOptions) -> String {
    let mut bytes = Vec::new();
    let report = page(scene, options, &mut bytes).unwrap().unwrap();
    assert_eq!(report.bytes, bytes.len() as u64);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_page_has_every_chunk_that_its_index_names_in_order() {
    let scene = many(CHUNK_FAULTS as u64 + 10);
    let text = page_text(&scene, PageOptions::default());
    let order = [
        "<style>",
        "id=\"metadata\"",
        "id=\"still\"",
        "id=\"l0.0\"",
        "\"use strict\"",
        "id=\"tables\"",
        "id=\"l1.0\"",
        "id=\"r0\"",
        "id=\"r1\"",
    ];
    let places: Vec<usize> = order.iter().map(|part| text.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    let chunk = text
        .split("id=\"r1\">")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap();
    let decoder = Decoder::new(&bytes_of(chunk));
    assert_eq!(decoder.planes(1, 10).len(), 10);
    assert!(
        !text.contains("http://")
            || text.matches("http://").count()
                == text.matches("http://www.w3.org/2000/svg").count()
    );
    assert!(!text.contains("https://"));
}

#[test]
fn a_page_that_must_be_small_says_what_it_lacks() {
    let scene = many(30_000);
    let whole = page_text(&scene, PageOptions::default());
    let most = whole.len() as u64 - 60_000;
    let text = page_text(
        &scene,
        PageOptions {
            max_size: Some(most),
        },
    );
    assert!((text.len() as u64) <= most);
    assert!(text.contains("the places within pages"));
    let mut bytes = Vec::new();
    let error = page(
        &scene,
        PageOptions {
            max_size: Some(1000),
        },
        &mut bytes,
    )
    .unwrap_err();
    assert!(matches!(error, Error::TooBig { .. }));
    assert!(bytes.is_empty());
}

#[test]
fn hostile_names_end_no_element() {
    let name = "</script><!--<script>\u{2028}]]>&\"'";
    let mut fault = fault(1, 0x7f00_0000_0000, Some((name, "r-xp", Some(0))));
    fault.process = Some(name.into());
    let scene = scene(vec![row(fault)]).unwrap();
    let text = page_text(&scene, PageOptions::default());
    let count = |what: &str| text.matches(what).count();
    // Ours: metadata, l0.0, the program, tables, l1.0, r0.
    assert_eq!(count("</script"), 6);
    assert_eq!(count("<script"), 6);
    assert_eq!(count("<!--"), 0);
    let picture = svg(&scene, Size::default()).unwrap();
    assert!(!picture.contains("<script") && !picture.contains('\u{2028}'));
}

proptest! {
    #[test]
    fn json_is_the_same_behind_its_escapes(text in "\\PC*|[<>&\u{2028}\u{2029}\"\\\\/!-]*") {
        let value = serde_json::json!({ "name": text });
        let bytes = json_bytes(&value);
        prop_assert!(!bytes.iter().any(|byte| b"<>&".contains(byte)));
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(), value);
    }

    #[test]
    fn bytes_come_back_from_their_text(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = text(&bytes);
        prop_assert!(!text.contains(['\0', '\n', '\r', '<']));
        prop_assert!(text.chars().all(|character| (character as u32) < 256));
        prop_assert_eq!(bytes_of(&text), bytes);
    }

    #[test]
    fn what_comes_back_from_its_code(kind in 0..Kind::ALL.len() as u8, access in 0..3u8, fate in 0..5u8, page_bits in 0..64u8) {
        let what = What { kind, access, fate, page_bits };
        prop_assert_eq!(What::of(what.code()), what);
    }

    #[test]
    fn any_address_is_laid_out_and_found_again(addresses in prop::collection::vec((any::<u64>(), 0..64u32), 1..60)) {
        let addresses: Vec<u64> = addresses.into_iter().map(|(address, bits)| address >> bits).collect();
        let rows = addresses.iter().enumerate();
        let rows = rows.map(|(time, &address)| row(fault(time as u64, address, None))).collect();
        let scene = scene(rows).unwrap();
        for (index, &wanted) in addresses.iter().enumerate() {
            prop_assert_eq!(address(&scene, index), wanted);
            let panel = &scene.panels[scene.classes[scene.class[index] as usize].panel as usize];
            prop_assert!(u64::from(scene.y[index]) < panel.pages);
        }
    }
}

#[test]
fn processes_may_be_apart() {
    let mut rows = Vec::new();
    for pid in 1..=12u32 {
        for index in 0..u64::from(pid) {
            let mut fault = fault(
                index * 100 + u64::from(pid),
                0x5600_0000_0000 + (u64::from(pid) << 30) + index * 4096,
                Some(("[heap]", "rw-p", None)),
            );
            fault.fault.pid = pid;
            fault.process = Some(format!("p{pid}").into());
            rows.push(Ok::<_, Infallible>(row(fault)));
        }
    }
    let metadata = Metadata::default();
    let read = Scene::of(metadata, rows.into_iter(), &mut (), Processes::Apart);
    let Ok((scene, None)) = read else {
        panic!("it is laid out");
    };
    let seen: Vec<(String, u64, u64)> = scene
        .panels
        .iter()
        .map(|panel| (scene.label(panel), panel.faults, panel.pages))
        .collect();
    let mut wanted: Vec<(String, u64, u64)> = (5..=12)
        .rev()
        .map(|pid| (format!("p{pid} {pid}: heap"), pid, pid))
        .collect();
    // The longest of them, aligned.
    wanted.push(("4 others: heap".into(), 1 + 2 + 3 + 4, 4));
    assert_eq!(seen, wanted);
    for index in 0..scene.faults() {
        let pid = scene.threads[scene.thread[index] as usize].pid;
        assert_eq!(
            address(&scene, index) >> 30,
            (0x5600_0000_0000 >> 30) + u64::from(pid)
        );
    }
}

#[test]
fn every_fault_is_in_the_still_picture() {
    let scene = many(10_000);
    let frames = heights(&weights(&scene), 700, 5, 17);
    let raster = Raster::new(&scene, 900, 700, &frames);
    assert_eq!(raster.total(), 10_000);
}

#[test]
fn the_still_picture_is_as_it_was() {
    let scene = many(200);
    let picture = svg(
        &scene,
        Size {
            width: 800,
            height: 500,
        },
    )
    .unwrap();
    // The image in it is deflated by a library, which may do so in another way some day.
    let (head, rest) = picture.split_once("base64,").unwrap();
    let (_, tail) = rest.split_once('"').unwrap();
    let text = format!("{head}base64,\"{tail}").replace("><", ">\n<");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/golden.svg");
    if std::env::var_os("FAULT_TRACER_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(golden).unwrap();
    assert_eq!(
        text, wanted,
        "if it should be so: FAULT_TRACER_GOLDEN=1 cargo test -p fault-tracer-plot"
    );
}

/// A trend of a mapping, and one of all the time.
fn trends() -> Vec<Trend> {
    let one = |text: &str, span_ns, mapping: Option<&str>| Trend {
        text: text.into(),
        detail: "<detail>".into(),
        span_ns,
        mapping: mapping.map(Into::into),
    };
    vec![
        one("A <burst> at the start", Some((0, 20)), Some("[heap]")),
        one("The faults never stop", None, None),
        one("Third", Some((5, u64::MAX)), None),
    ]
}

#[test]
fn trends_are_the_caption_of_the_still_picture() {
    let size = Size {
        width: 800,
        height: 500,
    };
    let caption = |trends: Vec<Trend>, size| {
        let picture = svg(&many(200).with_trends(trends), size).unwrap();
        let lines = picture.split("class=\"caption\"").skip(1);
        let texts = lines.map(|line| line.split(['>', '<']).nth(1).unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(caption(Vec::new(), size), [""; 0]);
    let all = [
        "A &lt;burst&gt; at the start",
        "The faults never stop",
        "Third",
    ];
    assert_eq!(caption(trends(), size), all);
    // A small picture has room for some of them.
    let many_trends: Vec<_> = (0..4).flat_map(|_| trends()).collect();
    let lines = caption(many_trends, size);
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[6], "and 6 more trends");
}

#[test]
fn the_page_knows_the_place_of_each_trend() {
    let scene = many(200).with_trends(trends());
    let span = scene.span;
    let text = page_text(&scene, PageOptions::default());
    let metadata = text.split("id=\"metadata\">").nth(1).unwrap();
    let metadata: serde_json::Value =
        serde_json::from_str(metadata.split("</script>").next().unwrap()).unwrap();
    assert_eq!(
        metadata["trends"],
        serde_json::json!([
            ["A <burst> at the start", "<detail>", 0, 20, "[heap]"],
            ["The faults never stop", "<detail>", 0, span, null],
            ["Third", "<detail>", 5, span, null]
        ])
    );
}

#[test]
fn a_png_is_one_or_says_what_it_lacks() {
    match png(&many(100), Size::default()) {
        Ok(bytes) => assert!(bytes.starts_with(b"\x89PNG")),
        Err(error) => assert!(matches!(error, Error::NoFont), "{error}"),
    }
}

#[test]
fn a_pdf_is_one_page_with_text_and_its_fonts() {
    let bytes = match pdf(&many(100), Size::default()) {
        Ok(bytes) => bytes,
        Err(error) => {
            assert!(matches!(error, Error::NoFont), "{error}");
            return;
        }
    };
    assert!(bytes.starts_with(b"%PDF-") && bytes.trim_ascii_end().ends_with(b"%%EOF"));
    let text = String::from_utf8_lossy(&bytes);
    // 1600 by 1000 pixels of a 96th of an inch, in points.
    assert!(text.contains("/MediaBox [0 0 1200 750]"));
    assert!(text.contains("/Subtype /Type0") && text.contains("/FontFile"));
    assert_eq!(text.matches("/Type /Page\n").count(), 1);
    // The faults are an image; all else is not.
    assert!(text.contains("/Subtype /Image"));
}

#[test]
fn terminals_get_lines_of_their_width() {
    let scene = many(2000);
    for width in [40, 80, 200] {
        let text = terminal(&scene, width, 24, false);
        assert!(
            text.lines().all(|line| line.chars().count() <= width),
            "{text}"
        );
        assert!(text.contains("heap") && text.contains("a.so"));
        assert!(text.lines().count() <= 26);
        assert!(!text.contains('\x1b'));
    }
    let text = terminal(&scene, 80, 24, true);
    assert!(text.contains("\x1b[34m") && text.contains("\x1b[0m"));
}
