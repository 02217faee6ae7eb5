// SPDX-License-Identifier: GPL-2.0-only

//! Where a fault is in its panel: pages from the panel's bottom, with big holes cut out. Pages are those of the traced
//! machine: they are the grain of pictures, and so are the numbers of pages here.
//!
//! In panels of files that is the offset in the file, so that all processes lie over each other. In others it
//! is the address; where several address spaces have the region, they are aligned at its edge.

use rustc_hash::FxHashMap;

use crate::{
    input::{Input, NONE},
    regions::Group,
    spaces::Spaces,
    Error,
};

/// Holes of so many pages are to scale: cutting them out explains nothing.
const HOLE_LEAST: u64 = 256;
/// So many holes are cut at most, the biggest, where that is enough.
const HOLES_MOST: usize = 64;
/// What is left of a hole where several address spaces must agree on it, in pages.
const HOLE_LEFT: u64 = 256;
/// Panels are not higher, in pages: coordinates have 32 bits.
const PAGES_MOST: u64 = u32::MAX as u64;

/// A stretch of a panel without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins, in pages from the panel's bottom.
    pub y: u64,
    /// Its pages.
    pub pages: u64,
    /// The page of the file or of the address space it begins with.
    pub page: u64,
    /// The file: an index of names, or [`NONE`].
    pub mapping: u32,
}

/// A panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// What it shows.
    pub group: Group,
    /// Of whom: an index of [`Input::owners`], or [`NONE`]: of all.
    pub owner: u32,
    /// Its height in pages.
    pub pages: u64,
    /// Its stretches, from the bottom. Of several address spaces, none.
    pub segments: Vec<Segment>,
    /// Address spaces that lie over each other.
    pub spaces: u64,
    /// Its faults.
    pub faults: u64,
}

/// Where all faults are.
pub struct Layout {
    /// From the top.
    pub panels: Vec<Panel>,
    /// The panel of each region.
    pub panel_of: Vec<u32>,
    /// Pages from the panel's bottom, of each fault.
    pub y: Vec<u32>,
    /// Index of [`Layout::bases`], of each fault.
    pub place: Vec<u32>,
    /// What is to be added to y to get the page of the address, modulo 2^64.
    pub bases: Vec<u64>,
}

/// A part of a panel that has its own pages: a file, or a region of an address space.
struct Slot {
    key: Key,
    mapping: u32,
    /// Of 256 pages each: its number, lowest and highest page.
    blocks: Vec<(u64, u64, u64)>,
    clusters: Vec<Cluster>,
    pages: u64,
}

/// What a panel is of: whose memory, and which part of it.
type Key = (u32, Group);

/// Pages of a slot without a hole.
#[derive(Clone, Copy)]
struct Cluster {
    first: u64,
    last: u64,
    y: u64,
}

/// Lays out all faults.
///
/// # Errors
///
/// [`Error::TooWide`].
pub fn layout(input: &Input, groups: &[Group]) -> Result<Layout, Error> {
    let spaces = Spaces::new(&input.events, &input.threads);
    let keys: Vec<Key> = input
        .regions
        .iter()
        .zip(groups)
        .map(|(region, &group)| (region.owner, group))
        .collect();
    let (mut slots, slot_of) = slots(input, &keys, &spaces);
    let mut by_key: std::collections::BTreeMap<Key, Vec<usize>> = Default::default();
    for (index, slot) in slots.iter_mut().enumerate() {
        slot.blocks.sort_unstable();
        by_key.entry(slot.key).or_default().push(index);
    }
    let mut panels = Vec::with_capacity(by_key.len());
    let mut number: FxHashMap<Key, u32> = FxHashMap::default();
    for (key, members) in by_key {
        // CAST: some tens.
        number.insert(key, panels.len() as u32);
        panels.push(panel(key, &members, &mut slots)?);
    }
    let panel_of: Vec<u32> = keys.iter().map(|key| number[key]).collect();

    let faults = input.len();
    let page_size = input.metadata.page_size;
    let mut y = Vec::with_capacity(faults);
    let mut place = Vec::with_capacity(faults);
    let mut bases = Vec::new();
    let mut base_index: FxHashMap<u64, u32> = FxHashMap::default();
    let mut last_base = None;
    for index in 0..faults {
        let region = input.region[index];
        let page = page_of(input, index, region);
        let slot = &slots[slot_of.of(input, index, &spaces) as usize];
        let at = slot
            .clusters
            .partition_point(|cluster| cluster.first <= page);
        let cluster = slot.clusters[at - 1];
        let here = cluster.y + (page - cluster.first);
        // CAST: panel() has checked it.
        y.push(here as u32);
        let base = page_size.page_of(input.address[index]).wrapping_sub(here);
        let known = match last_base {
            Some((last, known)) if last == base => known,
            _ => *base_index.entry(base).or_insert_with(|| {
                bases.push(base);
                // CAST: there are fewer bases than faults.
                (bases.len() - 1) as u32
            }),
        };
        last_base = Some((base, known));
        place.push(known);
        panels[panel_of[region as usize] as usize].faults += 1;
    }
    Ok(Layout {
        panels,
        panel_of,
        y,
        place,
        bases,
    })
}

/// The page of a fault as its panel counts: of the file, or of the address space.
fn page_of(input: &Input, index: usize, region: u32) -> u64 {
    let base = input.regions[region as usize].base.unwrap_or(0);
    let page_size = input.metadata.page_size;
    page_size.page_of(input.address[index].wrapping_sub(base))
}

/// Finds the slot of a fault.
struct SlotOf {
    /// By region, where the address space does not count.
    files: Vec<u32>,
    others: FxHashMap<(u32, Key), u32>,
    keys: Vec<Key>,
}

impl SlotOf {
    fn of(&self, input: &Input, index: usize, spaces: &Spaces) -> u32 {
        let region = input.region[index] as usize;
        match self.files[region] {
            NONE => self.others[&self.key(input, index, spaces)],
            slot => slot,
        }
    }

    fn key(&self, input: &Input, index: usize, spaces: &Spaces) -> (u32, Key) {
        let pid = input.threads[input.thread[index] as usize].pid;
        let key = self.keys[input.region[index] as usize];
        (spaces.at(pid, input.time_ns[index]), key)
    }
}

/// All slots with the pages touched in them, by blocks.
fn slots(input: &Input, keys: &[Key], spaces: &Spaces) -> (Vec<Slot>, SlotOf) {
    let mut slots: Vec<Slot> = Vec::new();
    let mut files: FxHashMap<(u32, Key), u32> = FxHashMap::default();
    let mut add = |key: Key, mapping: u32| {
        slots.push(Slot {
            key,
            mapping,
            blocks: Vec::new(),
            clusters: Vec::new(),
            pages: 0,
        });
        // CAST: there are fewer slots than faults.
        (slots.len() - 1) as u32
    };
    let mut slot_of = SlotOf {
        files: vec![NONE; keys.len()],
        others: FxHashMap::default(),
        keys: keys.to_vec(),
    };
    for (index, (&key, region)) in keys.iter().zip(&input.regions).enumerate() {
        if key.1.is_file() {
            slot_of.files[index] = *files
                .entry((region.mapping, key))
                .or_insert_with(|| add(key, region.mapping));
        }
    }
    // By slot and block: lowest and highest page.
    let mut blocks: FxHashMap<(u32, u64), (u64, u64)> = FxHashMap::default();
    let mut current: Option<((u32, u64), (u64, u64))> = None;
    for index in 0..input.len() {
        let region = input.region[index];
        let slot = match slot_of.files[region as usize] {
            NONE => {
                let key = slot_of.key(input, index, spaces);
                let mapping = input.regions[region as usize].mapping;
                *slot_of
                    .others
                    .entry(key)
                    .or_insert_with(|| add(key.1, mapping))
            }
            slot => slot,
        };
        let page = page_of(input, index, region);
        let key = (slot, page / HOLE_LEAST);
        match &mut current {
            Some((same, (low, high))) if *same == key => {
                *low = page.min(*low);
                *high = page.max(*high);
            }
            _ => {
                let before = current.replace((key, (page, page)));
                merge(&mut blocks, before);
            }
        }
    }
    merge(&mut blocks, current);
    for ((slot, block), (low, high)) in blocks {
        slots[slot as usize].blocks.push((block, low, high));
    }
    (slots, slot_of)
}

fn merge(blocks: &mut FxHashMap<(u32, u64), (u64, u64)>, one: Option<((u32, u64), (u64, u64))>) {
    if let Some((key, (low, high))) = one {
        let pages = blocks.entry(key).or_insert((low, high));
        *pages = (low.min(pages.0), high.max(pages.1));
    }
}

/// Places the slots of a group in its panel.
fn panel((owner, group): Key, members: &[usize], slots: &mut [Slot]) -> Result<Panel, Error> {
    let stacked = group.is_file();
    let aligned = !stacked && members.len() > 1;
    let mut members = members.to_vec();
    // Files over each other by name would need the names here; by first appearance is as good.
    members.sort_by_key(|&index| slots[index].mapping);
    let covered: u64 = members.iter().map(|&index| covered(&slots[index])).sum();
    let gap = if aligned {
        HOLE_LEFT
    } else {
        (covered / 50).max(1)
    };
    let mut top = 0;
    let mut segments = Vec::new();
    for &index in &members {
        let slot = &mut slots[index];
        cluster(slot, gap);
        if stacked {
            if top != 0 {
                top += gap;
            }
            for cluster in &mut slot.clusters {
                cluster.y += top;
            }
            top += slot.pages;
        } else {
            top = top.max(slot.pages);
        }
    }
    if top > PAGES_MOST {
        return Err(Error::TooWide);
    }
    for &index in &members {
        let slot = &mut slots[index];
        if aligned && group.grows_down() {
            let lift = top - slot.pages;
            for cluster in &mut slot.clusters {
                cluster.y += lift;
            }
        }
        if !aligned {
            segments.extend(slot.clusters.iter().map(|cluster| Segment {
                y: cluster.y,
                pages: cluster.last - cluster.first + 1,
                page: cluster.first,
                mapping: slot.mapping,
            }));
        }
    }
    Ok(Panel {
        group,
        owner,
        pages: top,
        segments,
        spaces: members.len() as u64,
        faults: 0,
    })
}

/// Pages between the lowest and highest of each block.
fn covered(slot: &Slot) -> u64 {
    let pages = slot.blocks.iter().map(|&(_, low, high)| high - low + 1);
    pages.sum()
}

/// Cuts a slot at its holes, and places the clusters from 0 on.
fn cluster(slot: &mut Slot, gap: u64) {
    let holes = |blocks: &[(u64, u64, u64)]| -> Vec<u64> {
        blocks
            .windows(2)
            .map(|pair| pair[1].1 - pair[0].2 - 1)
            .filter(|&hole| hole >= HOLE_LEAST)
            .collect()
    };
    let mut sizes = holes(&slot.blocks);
    sizes.sort_unstable_by_key(|&size| std::cmp::Reverse(size));
    // The smallest hole that is cut: the biggest ones are, and more where the others would not fit.
    let mut cut_from = sizes.get(HOLES_MOST).map_or(HOLE_LEAST, |&size| size + 1);
    let uncut: u64 = sizes.iter().filter(|&&size| size < cut_from).sum();
    if uncut > (1 << 20) + covered(slot) * 16 {
        cut_from = HOLE_LEAST;
    }
    slot.clusters.clear();
    let mut y = 0;
    for &(_, low, high) in &slot.blocks {
        match slot.clusters.last_mut() {
            Some(last) if low - last.last - 1 < cut_from.max(HOLE_LEAST) => last.last = high,
            Some(last) => {
                y = last.y + (last.last - last.first + 1) + gap;
                slot.clusters.push(Cluster {
                    first: low,
                    last: high,
                    y,
                });
            }
            None => slot.clusters.push(Cluster {
                first: low,
                last: high,
                y,
            }),
        }
    }
    slot.pages = slot
        .clusters
        .last()
        .map_or(0, |last| last.y + (last.last - last.first + 1));
    let _ = y;
}
