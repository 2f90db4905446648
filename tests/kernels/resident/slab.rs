//! Slabs of a resident layer, decoded panel by panel. Does the same as `kernels-gpu/src/device/resident`.

use crate::lanes::{Group, OfLanes, Operands, QUADS};
use fused_rans::Blob;
use fused_rans::layout::{
    FRAGMENT, LANES, LINE, LOOK_AHEAD, MAX_WORD_ROWS, PANEL_FRAGMENTS, PANELS, SLAB_STRIPS,
    SlabEntry, SlabException, TABLE, TILE, UNIT, panel_plain_bytes, panel_plane_start,
    panel_raw_bytes, panels, raw_comes_with_words,
};
use fused_rans::resident::{ResidentLayer, read_exceptions};
use fused_rans_kernels::ptx::byte_permute;
use fused_rans_kernels::{Lane, MmaType, RawWords, SliceMemory, WeightFormat};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A resident layer, and what a kernel decodes it with.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// The blob that the layer was made from. Only its header is read.
    pub blob: &'a Blob<'a>,
    pub resident: &'a ResidentLayer,
    pub table: &'a [u32; TABLE],
    pub format: WeightFormat,
    pub mma_type: MmaType,
}

/// A slab that a warp decodes.
pub struct Slab<'a> {
    layer: Layer<'a>,
    entry: SlabEntry,
    /// Raw planes, or the weights of a plain slab. Kernels copy these panel by panel, or load them as they are.
    stored: &'a [u8],
    groups: &'a [u8],
    /// The buffer of words: what is copied together, then anything.
    buffer: Vec<[u32; LANES]>,
    /// The lanes' streams; `None` in a plain slab.
    streams: Option<OfLanes<Lane>>,
    /// Number of panels.
    pub panels: usize,
}

impl<'a> Layer<'a> {
    /// Returns the slab in row `row` of slabs and column `col` of tiles, with its streams at their starts.
    pub fn slab(self, row: usize, col: usize) -> Slab<'a> {
        let number = row * self.blob.grid().across() + col;
        let entry = self.resident.index[number];
        let panels = self.panels(col);
        let bytes = match entry.rows {
            0 => panels * panel_plain_bytes(self.format.dtype().byte_len()),
            _ => panels * panel_raw_bytes(self.format.raw_bits()),
        };
        let (start, front) = (entry.start as usize * UNIT, entry.front_units() as usize * UNIT);
        let stored = &self.resident.slabs[start + front..][..bytes];
        let group_bytes = self.blob.groups().map_or(0, |plane| plane.bytes());
        let groups = &self.resident.groups[group_bytes * number..][..group_bytes];
        let buffer = self.buffer(entry, panels);
        let first = |lane| Lane::new(&self.memory(&buffer, lane));
        let streams = (entry.rows > 0).then(|| core::array::from_fn(first));
        Slab { layer: self, entry, stored, groups, buffer, streams, panels }
    }

    /// Returns the panels of the slabs in column `col` of tiles.
    fn panels(self, col: usize) -> usize {
        let rest = self.blob.cols() - col * TILE;
        if rest >= TILE { PANELS } else { panels(rest.div_ceil(FRAGMENT)) }
    }

    /// Returns whether raw planes are copied with the words.
    fn raw_comes_with_words(self) -> bool {
        raw_comes_with_words(self.blob.has_groups(), self.format.raw_bits())
    }

    /// Returns a buffer with the words of a slab and what is copied with them. What follows is random, because in shared memory it
    /// belongs to other slabs, and a stream that reads it must not matter.
    fn buffer(self, entry: SlabEntry, panels: usize) -> Vec<[u32; LANES]> {
        let mut bytes = entry.copied_units() as usize * UNIT;
        if self.raw_comes_with_words() && entry.rows > 0 {
            bytes += panels * panel_raw_bytes(self.format.raw_bits());
        }
        let lines = bytes.div_ceil(LINE);
        assert!(lines <= self.resident.buffer_rows as usize, "a slab is longer than the buffers");
        let (mut rng, mut buffer) = (SmallRng::seed_from_u64(entry.start.into()), Vec::new());
        buffer.resize_with(lines + MAX_WORD_ROWS + LOOK_AHEAD, || {
            core::array::from_fn(|_| rng.random())
        });
        let copied = self.resident.slabs[entry.start as usize * UNIT..][..bytes].as_chunks().0;
        for (word, &bytes) in buffer.as_flattened_mut().iter_mut().zip(copied) {
            *word = u32::from_le_bytes(bytes);
        }
        buffer
    }

    fn memory(self, words: &'a [[u32; LANES]], lane: usize) -> SliceMemory<'a> {
        SliceMemory { table: self.table, rows: words, lane, raw: &[] }
    }
}

impl Slab<'_> {
    /// Returns whether it is plain.
    pub fn is_plain(&self) -> bool {
        self.streams.is_none()
    }

    /// Returns its exceptions, in their order: from the buffer if they were copied, else from device memory.
    pub fn exceptions(&self) -> Vec<SlabException> {
        let entry = self.entry;
        if !entry.exceptions_are_copied() {
            return self.layer.resident.exceptions_of(entry);
        }
        let (start, bytes) =
            (entry.word_units() as usize * UNIT, usize::from(entry.exceptions) * UNIT);
        read_exceptions(&copied(&self.buffer, start, bytes))
    }

    /// Returns scales and zero points of group `number`.
    pub fn group(&self, number: usize) -> OfLanes<Group> {
        let Layer { blob, format, mma_type, .. } = self.layer;
        Group::of_lanes(mma_type, &format, blob.groups(), self.groups, number)
    }

    /// Decodes panel `panel`, the one after the last that was decoded. Returns the operands of its fragments: strip by strip
    /// of each step.
    pub fn panel(&mut self, panel: usize, group: &OfLanes<Group>) -> [Operands; PANEL_FRAGMENTS] {
        let mut operands = [[[0; 4]; LANES]; PANEL_FRAGMENTS];
        let Layer { table, format, mma_type, .. } = self.layer;
        let Some(streams) = &mut self.streams else {
            self.plain_panel(panel, group, &mut operands);
            return operands;
        };
        let bytes = panel_raw_bytes(format.raw_bits());
        let planes = match self.layer.raw_comes_with_words() {
            true => {
                let front = self.entry.front_units() as usize * UNIT;
                copied(&self.buffer, front + panel * bytes, bytes)
            }
            false => self.stored[panel * bytes..][..bytes].to_vec(),
        };
        for (lane, stream) in streams.iter_mut().enumerate() {
            let planes = Planes { words: planes.as_chunks().0, raw_bits: format.raw_bits(), lane };
            let memory = SliceMemory { table, rows: &self.buffer, lane, raw: &[] };
            for (half, operands) in operands.chunks_exact_mut(4).enumerate() {
                let raw = planes.half(half);
                for (f, operands) in operands.iter_mut().enumerate() {
                    let entries = stream.fragment(&memory, format.table());
                    let offsets = group[lane].offsets[f % SLAB_STRIPS];
                    operands[lane] = format.operands(mma_type, entries, &raw, f, offsets);
                }
            }
        }
        operands
    }

    /// Converts the weights of a panel of a plain slab to operands. Does the same as `plain_panel` of the lean kernels.
    fn plain_panel(&self, panel: usize, group: &OfLanes<Group>, operands: &mut [Operands]) {
        let Layer { format, mma_type, .. } = self.layer;
        for (fragment, operands) in operands.iter_mut().enumerate() {
            for (lane, operands) in operands.iter_mut().enumerate() {
                let registers = self.plain_fragment(panel, fragment, lane);
                let offsets = group[lane].offsets[fragment % SLAB_STRIPS];
                *operands = core::array::from_fn(|i| {
                    format.operand(mma_type, registers[i], i % 2 == 1, offsets[i % 2])
                });
            }
        }
    }

    /// Returns a lane's eight weights of a fragment, each in the low bits of a half. Does the same as the kernels'
    /// `plain_fragment`.
    fn plain_fragment(&self, panel: usize, fragment: usize, lane: usize) -> [u32; 4] {
        let byte_len = self.layer.format.dtype().byte_len();
        let lane = (fragment * LANES + lane) * 8 * byte_len;
        let from = &self.stored[panel * panel_plain_bytes(byte_len) + lane..];
        let word = |i| u32::from_le_bytes(from.as_chunks().0[i]);
        if byte_len == 2 {
            return core::array::from_fn(word);
        }
        let half = |i, selector| byte_permute(word(i), 0, selector);
        [half(0, 0x4140), half(0, 0x4342), half(1, 0x4140), half(1, 0x4342)]
    }
}

/// Returns `bytes` bytes of a buffer, from byte `start` on.
fn copied(buffer: &[[u32; LANES]], start: usize, bytes: usize) -> Vec<u8> {
    let words = &buffer.as_flattened()[start / 4..][..bytes / 4];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Raw planes of a panel.
struct Planes<'a> {
    words: &'a [[u8; 4]],
    raw_bits: u32,
    lane: usize,
}

impl Planes<'_> {
    /// Returns `N` words from word `at` of the plane of `width` bits on.
    fn load<const N: usize>(&self, width: u32, at: usize) -> [u32; N] {
        let at = panel_plane_start(self.raw_bits, width) / 4 + at;
        core::array::from_fn(|i| u32::from_le_bytes(self.words[at + i]))
    }

    /// Returns the lane's words of the four fragments of half `half`. Does the same as `Planes::half` of the kernels.
    fn half(&self, half: usize) -> RawWords {
        let (mut words, lane) = (RawWords::default(), 4 * self.lane);
        if self.raw_bits & 8 != 0 {
            words.eight = [0, 1].map(|i| self.load(8, (2 * half + i) * QUADS + lane));
        }
        if self.raw_bits & 4 != 0 {
            words.four = self.load(4, half * QUADS + lane);
        }
        // Words of the narrow planes are loaded at once for the whole panel.
        if self.raw_bits & 2 != 0 {
            let two: [u32; 4] = self.load(2, lane);
            words.two = [two[2 * half], two[2 * half + 1]];
        }
        if self.raw_bits & 1 != 0 {
            let one: [u32; 2] = self.load(1, 2 * self.lane);
            words.one = one[half];
        }
        words
    }
}
