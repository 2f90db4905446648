//! Slabs and group planes of a resident layer: one chunk of them is made while the chunk before it is copied.

use super::super::{CudaStream, GpuError, LayerPart};
use super::region::ResidentLayout;
use super::verify::regions;
use crate::BlobError;
use crate::resident::ResidentPlan;
use fused_rans_layout::{Region, SLABS, UNIT};
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of a chunk, unless one row of tiles has more.
const CHUNK: usize = 8 << 20;

/// Queues the copies of slabs and group planes to the layer at `start`, and appends their checksums to `parts`.
pub fn queue_chunks(
    plan: &ResidentPlan<'_>,
    layout: &ResidentLayout,
    start: u64,
    cuda_stream: &CudaStream,
    parts: &mut Vec<(LayerPart, Region)>,
) -> Result<(), GpuError> {
    let (mut ready, mut next) = (Chunk::default(), Chunk::default());
    // The last round copies only.
    for rows in chunks(plan, CHUNK).into_iter().map(Some).chain([None]) {
        let (copied, made) = rayon::join(
            || ready.queue(plan, layout, start, cuda_stream),
            || rows.map_or(Ok(()), |rows| next.make(plan, rows)),
        );
        copied?;
        made?;
        std::mem::swap(&mut ready, &mut next);
        next.rows = 0..0;
        ready.add_checksums(plan, layout, start, parts);
    }
    Ok(())
}

/// Divides the rows of tiles into chunks of at most `most` bytes, or of a single row.
fn chunks(plan: &ResidentPlan<'_>, most: usize) -> Vec<Range<usize>> {
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for row in 0..plan.tile_rows() {
        let more = plan.slab_range(row).len() + plan.group_range(row).len();
        match chunks.last_mut().filter(|_| bytes + more <= most) {
            Some(last) => last.end += 1,
            None => {
                chunks.push(row..row + 1);
                bytes = 0;
            }
        }
        bytes += more;
    }
    chunks
}

/// Some rows of tiles, in the resident layout.
#[derive(Default)]
struct Chunk {
    rows: Range<usize>,
    slabs: Vec<u8>,
    groups: Vec<u8>,
}

impl Chunk {
    /// Returns the slabs' and the scales' ranges in the layer.
    fn ranges(&self, plan: &ResidentPlan<'_>) -> [Range<usize>; 2] {
        let Range { start, end } = self.rows.clone();
        if start == end {
            return [0..0, 0..0];
        }
        let last = end - 1;
        [
            plan.slab_range(start).start..plan.slab_range(last).end,
            plan.group_range(start).start..plan.group_range(last).end,
        ]
    }

    /// Makes rows `rows` of tiles.
    fn make(&mut self, plan: &ResidentPlan<'_>, rows: Range<usize>) -> Result<(), GpuError> {
        self.rows = rows;
        let [slabs, groups] = self.ranges(plan);
        for (bytes, len) in [(&mut self.slabs, slabs.len()), (&mut self.groups, groups.len())] {
            let more = len.saturating_sub(bytes.len());
            let reserved = bytes.try_reserve_exact(more);
            reserved.map_err(|_| BlobError::Memory { bytes: len as u64 })?;
            // Every byte is written.
            bytes.resize(len, 0);
        }
        for row in self.rows.clone() {
            let of = |range: Range<usize>, start| range.start - start..range.end - start;
            let slabs = &mut self.slabs[of(plan.slab_range(row), slabs.start)];
            let groups = &mut self.groups[of(plan.group_range(row), groups.start)];
            plan.write_tile_row(row, slabs, groups)?;
        }
        Ok(())
    }

    /// Queues the copies to the layer at `start`. Both buffers are read when this returns.
    fn queue(
        &self,
        plan: &ResidentPlan<'_>,
        layout: &ResidentLayout,
        start: u64,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let [slabs, groups] = self.ranges(plan);
        // Another thread than the caller's, perhaps.
        cuda_stream.gpu().enter()?;
        let groups_at = layout.groups.map(|at| at + groups.start);
        let groups = groups_at.map(|at| (at, &self.groups[..groups.len()]));
        for (at, bytes) in [(slabs.start, &self.slabs[..slabs.len()])].into_iter().chain(groups) {
            // SAFETY: the part lies in the memory: its range is the plan's. The buffers are not page-locked, so they have
            // been read when the call returns.
            unsafe { cuda_stream.queue_host_copy(start + at as u64, bytes)? };
        }
        Ok(())
    }

    /// Adds the checksums of each slab, and of the scales.
    fn add_checksums(
        &self,
        plan: &ResidentPlan<'_>,
        layout: &ResidentLayout,
        start: u64,
        parts: &mut Vec<(LayerPart, Region)>,
    ) {
        if self.rows.is_empty() {
            return;
        }
        let [slabs, groups] = self.ranges(plan);
        let across = plan.blob().grid().across();
        let first = plan.entries(self.rows.start).start;
        let entries = &plan.index()[first..plan.entries(self.rows.end - 1).end];
        let of_slabs = entries.par_iter().enumerate().flat_map_iter(|(i, entry)| {
            let at = entry.start as usize * UNIT;
            let next = entries.get(i + 1).map_or(slabs.end, |next| next.start as usize * UNIT);
            let bytes = &self.slabs[at - slabs.start..next - slabs.start];
            let (row, col) = ((first + i) / across, (first + i) % across);
            let part = LayerPart::Tile(row / SLABS * across + col);
            regions(start + at as u64, bytes).map(move |region| (part, region))
        });
        parts.par_extend(of_slabs);
        if let Some(at) = layout.groups {
            let address = start + (at + groups.start) as u64;
            let of_groups = regions(address, &self.groups[..groups.len()]);
            parts.extend(of_groups.map(|region| (LayerPart::Groups, region)));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{Blob, Dtype, Encoder, Epilogue, Groups, Matrix};
    use half::f16;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    /// Returns a layer of small integers, with groups or with exceptions.
    pub fn layer(rows: usize, cols: usize, groups: bool) -> Blob<'static> {
        let mut rng = SmallRng::seed_from_u64(7);
        let most = |rare: bool| if rare && !groups { 127 } else { 7 };
        let weight = |_| {
            let most = most(rng.random_range(0..500) == 0);
            rng.random_range(-most..=most) as u8
        };
        let weights: Vec<u8> = (0..rows * cols).map(weight).collect();
        let scales = vec![f16::ONE; rows * cols.div_ceil(128)];
        let matrix = Matrix::from_bytes(Dtype::I8, &weights, rows, cols).unwrap();
        let matrix = match groups {
            true => matrix.with_groups(Groups { scales: &scales, zeros: None }).unwrap(),
            false => matrix,
        };
        Encoder::new().max_bytes(16 * weights.len() + 10_000).encode(matrix).unwrap()
    }

    #[test]
    fn chunks_have_all_rows_of_tiles_in_order() {
        for (rows, groups) in [(1, true), (256, false), (257, true), (2049, true), (2049, false)] {
            let blob = layer(rows, 300, groups);
            let plan = ResidentPlan::new(&blob).unwrap();
            let bytes = |row: usize| plan.slab_range(row).len() + plan.group_range(row).len();
            let all: usize = (0..plan.tile_rows()).map(bytes).sum();
            for most in [0, 1, bytes(0), 2 * bytes(0), 3 * bytes(0) + 100, all - 1, all, CHUNK] {
                let chunks = chunks(&plan, most);
                let sizes: Vec<usize> =
                    chunks.iter().map(|rows| rows.clone().map(bytes).sum()).collect();
                assert!(chunks.iter().cloned().flatten().eq(0..plan.tile_rows()));
                for (chunk, &size) in chunks.iter().zip(&sizes) {
                    assert!(chunk.len() == 1 || size <= most, "{chunks:?}");
                }
                // Each chunk lacks room for the row after it.
                for (next, size) in chunks.iter().skip(1).zip(&sizes) {
                    assert!(size + bytes(next.start) > most, "{chunks:?}");
                }
            }
        }
    }

    #[test]
    fn chunks_in_buffers_of_any_size_are_the_layer() {
        for (rows, cols, groups) in
            [(1, 1, true), (1, 1, false), (1281, 300, true), (800, 600, false)]
        {
            let blob = layer(rows, cols, groups);
            let plan = ResidentPlan::new(&blob).unwrap();
            let layout = ResidentLayout::new(&plan, Epilogue::default());
            let start = 1 << 20;
            for most in [0, plan.slab_bytes() / 2, CHUNK] {
                let (mut slabs, mut groups) = (Vec::new(), Vec::new());
                let (mut chunk, mut parts) = (Chunk::default(), Vec::new());
                chunk.add_checksums(&plan, &layout, start, &mut parts);
                assert!(parts.is_empty() && chunk.ranges(&plan) == [0..0, 0..0]);
                // As if another chunk had been there.
                chunk.slabs = vec![0xA5; 3 << 16];
                for rows in chunks(&plan, most) {
                    chunk.make(&plan, rows).unwrap();
                    chunk.add_checksums(&plan, &layout, start, &mut parts);
                    slabs.extend_from_slice(&chunk.slabs);
                    groups.extend_from_slice(&chunk.groups);
                }
                let whole = ResidentPlan::new(&blob).unwrap().build().unwrap();
                assert!(slabs == whole.slabs && groups == whole.groups);
                check_regions(
                    &parts,
                    LayerPart::Groups,
                    start + layout.groups.unwrap_or(0) as u64,
                    &groups,
                );
                let tiles: Vec<_> =
                    parts.into_iter().filter(|(part, _)| *part != LayerPart::Groups).collect();
                for tile in 0..blob.grid().tiles().unwrap() {
                    assert!(tiles.iter().any(|(part, _)| *part == LayerPart::Tile(tile)));
                }
                let tiles: Vec<_> =
                    tiles.into_iter().map(|(_, region)| (LayerPart::Tile(0), region)).collect();
                check_regions(&tiles, LayerPart::Tile(0), start, &slabs);
            }
        }
    }

    /// Checks that the regions of a part are those of `bytes` at `address`, without gaps.
    fn check_regions(all: &[(LayerPart, Region)], of: LayerPart, address: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for (_, region) in all.iter().filter(|(part, _)| *part == of) {
            assert_eq!(region.address, address + (bytes.len() - rest.len()) as u64);
            let own = rest.split_off(..4 * region.words as usize).unwrap();
            assert_eq!(region.crc, crc32c::crc32c(own));
        }
        assert!(rest.is_empty());
    }
}
