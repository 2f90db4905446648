//! Files and models: compressed, verified, inspected, restored.

mod damage;
mod headers;
mod model;
mod quantized;
mod single;

use fused_rans::file::Summary;

/// Returns the counts and sizes of a summary, which are the same for every job.
fn counts(summary: &Summary) -> [u64; 5] {
    let Summary { tensors, blobs, quantized, original_bytes, stored_bytes, .. } = *summary;
    [tensors as u64, blobs as u64, quantized as u64, original_bytes, stored_bytes]
}
