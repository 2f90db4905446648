//! Plain slabs: weights as they are, in the order of the fragments.

use fused_rans_layout::{
    FRAGMENT, LANES, PANEL_FRAGMENTS, PANEL_STEPS, SLAB_STRIPS, TileShape, matrix_column,
    panel_plain_bytes, register_position,
};

/// Writes a plain slab of a tile of shape `shape`. `weights` holds the slab's weights of `BYTES` bytes, row by row.
/// Writes zeros for rows and columns outside the matrix.
///
/// The columns are those of the blob's fragments, so that a kernel loads activations in the same way for both kinds of
/// slabs: a last step without a partner has 16 columns to itself.
pub(super) fn write_plain<const BYTES: usize>(shape: TileShape, weights: &[u8], out: &mut [u8]) {
    let row_bytes = shape.cols * BYTES;
    let row = |row: usize| {
        weights.get(row * row_bytes..).map_or(&[][..], |rest| &rest[..row_bytes.min(rest.len())])
    };
    let fragment_bytes = panel_plain_bytes(BYTES) / PANEL_FRAGMENTS;
    for (number, fragment) in out.chunks_exact_mut(fragment_bytes).enumerate() {
        let (step, strip) = (number / SLAB_STRIPS, number % SLAB_STRIPS);
        if step >= shape.steps() {
            fragment.fill(0);
            continue;
        }
        for (lane, out) in fragment.chunks_exact_mut(8 * BYTES).enumerate() {
            // The lane's four columns of this step are neighbors; registers 0 and 2 have the upper row.
            let (upper, within) = register_position(lane, 0, 0);
            let col = matrix_column(shape.steps(), step, within) * BYTES;
            let upper = FRAGMENT * strip + upper;
            let (upper, lower) =
                (four::<BYTES>(row(upper), col), four::<BYTES>(row(upper + 8), col));
            let pair = 2 * BYTES;
            out[..pair].copy_from_slice(&upper[..pair]);
            out[pair..2 * pair].copy_from_slice(&lower[..pair]);
            out[2 * pair..3 * pair].copy_from_slice(&upper[pair..2 * pair]);
            out[3 * pair..].copy_from_slice(&lower[pair..2 * pair]);
        }
    }
}

/// Returns four weights of `row`, from byte `start` on, with zeros for those outside.
#[inline(always)]
fn four<const BYTES: usize>(row: &[u8], start: usize) -> [u8; 8] {
    let mut four = [0; 8];
    let own = &mut four[..4 * BYTES];
    let rest = row.get(start..).unwrap_or_default();
    match rest.get(..own.len()) {
        Some(all) => own.copy_from_slice(all),
        None => own[..rest.len()].copy_from_slice(rest),
    }
    four
}

const _: () =
    assert!(PANEL_FRAGMENTS == PANEL_STEPS * SLAB_STRIPS && LANES * 8 == FRAGMENT * FRAGMENT);
