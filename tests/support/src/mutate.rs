//! Makes mutants of blobs: changes fields, tables, records, words and whole parts. A seed always gives the same mutant.

use std::ops::Range;

use fused_rans::Blob;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::seal::{self, EXCEPTIONS, HEADER_FIELDS, INDEX, RECORD, get, interesting, set};

/// Makes one to four changes to a valid blob. Does not correct its checksums; [`seal::reseal`] does.
pub fn mutate(blob: &[u8], seed: u64) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(seed);
    let layout = Layout::new(&Blob::parse(blob).expect("it is valid"));
    let mut mutant = blob.to_vec();
    for _ in 0..random.random_range(1..5) {
        match random.random_range(0..4) {
            0 => balance(&mut mutant, &layout, &mut random),
            _ => change(&mut mutant, layout.any(&mut random), &mut random),
        }
    }
    if random.random_ratio(1, 5) {
        reshape(&mut mutant, &layout, &mut random);
    }
    if random.random_ratio(1, 2) {
        make_consistent(&mut mutant);
    }
    mutant
}

/// A run of fields of one kind, `unit` bytes each.
struct Part {
    range: Range<usize>,
    unit: usize,
}

impl Part {
    fn new(start: usize, bytes: usize, unit: usize) -> Self {
        Self { range: start..start + bytes, unit }
    }

    /// Returns offset and size of a random field.
    fn any(&self, random: &mut impl Rng) -> (usize, usize) {
        let count = self.range.len() / self.unit;
        (self.range.start + self.unit * random.random_range(0..count), self.unit)
    }
}

/// The parts of a blob.
struct Layout {
    header: Vec<Part>,
    table: Vec<Part>,
    records: Vec<Part>,
    row_scales: Vec<Part>,
    payloads: Vec<Part>,
    tail_lengths: Vec<Part>,
    tiles: usize,
}

impl Layout {
    fn new(blob: &Blob<'_>) -> Self {
        let tiles = blob.index().len();
        let records = (0..tiles).flat_map(|tile| {
            let fields = [(0, 4, 4), (4, 4, 4), (8, 2, 2), (10, 2, 2), (12, 1, 1), (13, 3, 1)];
            let slabs = [(16, 8, 1), (24, 8, 1), (32, 16, 2), (48, 16, 2)];
            let record = INDEX + RECORD * tile;
            let part = move |(at, bytes, unit)| Part::new(record + at, bytes, unit);
            fields.into_iter().chain(slabs).map(part)
        });
        let scales =
            blob.row_scales().map(|scales| Part::new(INDEX + RECORD * tiles, 2 * scales.len(), 2));
        let payloads: Vec<Vec<Part>> = (0..tiles).map(|tile| payload(blob, tile)).collect();
        let coded = payloads.iter().filter(|parts| parts.len() > 1);
        Self {
            header: HEADER_FIELDS.map(|(at, bytes)| Part::new(at, bytes, bytes)).into(),
            table: vec![Part::new(128, 512, 2)],
            records: records.collect(),
            row_scales: scales.into_iter().collect(),
            tail_lengths: coded
                .map(|parts| Part { range: parts[0].range.clone(), unit: 1 })
                .collect(),
            payloads: payloads.into_iter().flatten().collect(),
            tiles,
        }
    }

    /// Returns a random part, each kind about as often as it matters.
    fn any(&self, random: &mut impl Rng) -> &Part {
        let parts = match random.random_range(0..10) {
            0 => &self.header,
            1 => &self.table,
            2 | 3 => &self.records,
            4 if !self.row_scales.is_empty() => &self.row_scales,
            _ => &self.payloads,
        };
        pick(parts, random)
    }
}

/// Returns a random item.
pub fn pick<'a, T>(items: &'a [T], random: &mut impl Rng) -> &'a T {
    &items[random.random_range(0..items.len())]
}

/// Returns the parts of a tile's payload that are not empty. A coded tile has tail lengths, raw planes, group blocks, full
/// rows, exceptions and words of tail rows; a raw tile has weights.
fn payload(blob: &Blob<'_>, tile: usize) -> Vec<Part> {
    let (entry, shape) = (blob.index()[tile], blob.grid().shape(tile));
    let mut start = 128 * entry.offset as usize;
    let end = start + 128 * usize::from(entry.lines);
    if entry.kind == 0 {
        return vec![Part { range: start..end, unit: blob.dtype().byte_len() }];
    }
    let full: usize = entry.full_rows.iter().map(|&rows| usize::from(rows)).sum();
    let groups = blob.groups().map_or(0, |plane| plane.bytes() * shape.slabs());
    let raw = shape.raw_bytes(blob.split().raw_bits());
    let exceptions = 4 * usize::from(entry.exceptions);
    let sizes = [(16 * shape.slabs(), 1), (raw, 4), (groups, 2), (128 * full, 4), (exceptions, 4)];
    let mut parts = Vec::new();
    for (bytes, unit) in sizes {
        parts.push(Part::new(start, bytes, unit));
        start += bytes;
    }
    parts.push(Part { range: start..end, unit: 4 });
    parts.retain(|part| !part.range.is_empty());
    parts
}

/// Changes one field, or two of the same kind.
fn change(blob: &mut [u8], part: &Part, random: &mut impl Rng) {
    let (field, other) = (part.any(random), part.any(random));
    let (now, another) = (get(blob, field.0, field.1), get(blob, other.0, other.1));
    match random.random_range(0..6) {
        0 => set(blob, field, random.random()),
        1 => set(blob, field, now ^ 1 << random.random_range(0..8 * field.1)),
        2 => set(blob, field, another),
        3 => {
            set(blob, field, another);
            set(blob, other, now);
        }
        4 => {
            let run = field.0.min(other.0)..field.0.max(other.0) + part.unit;
            blob[run].rotate_left(part.unit);
        }
        _ => {
            let values: Vec<u64> = interesting(now, field.1).into_iter().collect();
            set(blob, field, *pick(&values, random));
        }
    }
}

/// Moves a count from one field to another, so that a check of their sum does not notice.
fn balance(blob: &mut [u8], layout: &Layout, random: &mut impl Rng) {
    let record = INDEX + RECORD * random.random_range(0..layout.tiles);
    let slab = random.random_range(0..8);
    let few = random.random_range(1..4);
    let (from, to, count) = match random.random_range(0..4) {
        0 => {
            let table = &layout.table[0];
            (table.any(random), table.any(random), random.random_range(1..4097))
        }
        1 => ((record + 16 + slab, 1), (record + 24 + slab, 1), few),
        2 => ((record + 24 + slab, 1), (record + 16 + slab, 1), few),
        _ if layout.tail_lengths.is_empty() => return,
        _ => {
            let lengths = pick(&layout.tail_lengths, random);
            (lengths.any(random), lengths.any(random), *pick(&[1, 16], random))
        }
    };
    let count = count.min(get(blob, from.0, from.1));
    set(blob, from, get(blob, from.0, from.1) - count);
    set(blob, to, get(blob, to.0, to.1).wrapping_add(count));
}

/// Removes, truncates, duplicates or exchanges parts, or inserts lines.
fn reshape(blob: &mut Vec<u8>, layout: &Layout, random: &mut impl Rng) {
    let part = layout.any(random).range.clone();
    match random.random_range(0..5) {
        0 => blob.truncate(random.random_range(part.start..=part.end)),
        1 => drop(blob.drain(part)),
        2 => {
            let again = blob[part.clone()].to_vec();
            drop(blob.splice(part.start..part.start, again));
        }
        3 => exchange_tiles(blob, [(); 2].map(|()| random.random_range(0..layout.tiles))),
        _ => {
            let lines = vec![random.random(); 128 * random.random_range(1..4)];
            let at = part.start / 128 * 128;
            drop(blob.splice(at..at, lines));
        }
    }
}

/// Exchanges two tiles: payloads and index records.
fn exchange_tiles(blob: &mut [u8], mut tiles: [usize; 2]) {
    tiles.sort_unstable();
    let [first, second] = tiles;
    let (Some(a), Some(b)) = (seal::payload(blob, first), seal::payload(blob, second)) else {
        return;
    };
    if first == second || a.end > b.start {
        return;
    }
    let [early, middle, late] =
        [a.clone(), a.end..b.start, b.clone()].map(|part| blob[part].to_vec());
    blob[a.start..b.end].copy_from_slice(&[late, middle, early].concat());
    let (front, back) = blob.split_at_mut(INDEX + RECORD * second);
    front[INDEX + RECORD * first..][..RECORD].swap_with_slice(&mut back[..RECORD]);
}

/// Makes lengths, offsets and sums agree with the index, so that readers get past those checks.
fn make_consistent(blob: &mut Vec<u8>) {
    seal::lay_out(blob);
    if seal::payload_start(blob).is_some() {
        let records = (0..seal::tiles(blob).unwrap_or(0)).map(|tile| INDEX + RECORD * tile);
        let exceptions = records.map(|record| get(blob, record + 10, 2)).sum();
        set(blob, EXCEPTIONS, exceptions);
    }
}
