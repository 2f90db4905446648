//! Reads blobs of any bytes and checks that all readers agree and allocate no more memory than the bytes justify.

use crate::allocation;
use crate::crc::crc32c;
use crate::seal::{RECORD, reseal_header, set};
use fused_rans::{Blob, BlobError, TileFault, reference};

/// Parses `bytes`. Checks that no allocation is larger than their length justifies.
pub fn parse(bytes: &[u8]) -> Result<Blob<'_>, BlobError> {
    let (blob, largest) = allocation::largest(|| Blob::parse(bytes));
    let limit = bytes.len() + 4096;
    assert!(largest <= limit, "parsing {} bytes took {largest} at once", bytes.len());
    let blob = blob?;
    // Parsing does not read payloads: all it knows of a tile is its index record.
    assert!(blob.decoded_byte_len() <= bytes.len() / RECORD * 256 * 256 * 2);
    Ok(blob)
}

/// Decodes `bytes` with both decoders and checks that they agree. If only the weights' checksum is wrong, corrects it in
/// `bytes` and returns the weights.
pub fn decode(bytes: &mut [u8]) -> Result<Vec<u8>, BlobError> {
    let blob = parse(bytes)?;
    let mut fast = vec![0xA5; blob.decoded_byte_len()];
    let slow = reference::decode(&blob);
    check_groups(&blob);
    match (blob.verify(), blob.decode(&mut fast), slow) {
        (Err(_), Err(error), Err(_)) => Err(error),
        (Ok(()), Ok(()), Ok(slow)) => {
            assert!(fast == slow, "the decoders give different weights");
            Ok(fast)
        }
        (Ok(()), Err(BlobError::WeightsChecksum), Ok(slow)) => {
            set(bytes, (12, 4), crc32c(&[&slow]).into());
            reseal_header(bytes);
            let blob = Blob::parse(bytes).expect("as good as before");
            blob.decode(&mut fast).expect("the checksum was corrected");
            assert!(fast == slow, "the decoders give different weights");
            Ok(slow)
        }
        // Only decoding finds a fault of a stream.
        (Ok(()), Err(error @ BlobError::Tile { fault: TileFault::Stream, .. }), Err(same)) => {
            assert_eq!(error, same);
            Err(error)
        }
        (verify, fast, slow) => panic!("{verify:?}, {fast:?}, {:?}", slow.map(drop)),
    }
}

/// Checks that scales and zero points can be read if and only if the blob is intact, and that no allocation is larger than
/// the blob justifies.
pub fn check_groups(blob: &Blob<'_>) {
    let ((scales, zeros), largest) =
        allocation::largest(|| (blob.group_scales(), blob.group_zeros()));
    assert!(largest <= blob.as_bytes().len() + 4096, "groups took {largest} bytes at once");
    let groups = blob.rows() * blob.cols().div_ceil(128);
    match blob.groups() {
        None => assert_eq!((scales, zeros), (Ok(None), Ok(None))),
        Some(plane) => {
            let intact = blob.verify().is_ok();
            assert_eq!(scales.map(|scales| scales.unwrap().len()).ok(), intact.then_some(groups));
            assert_eq!(zeros.is_ok(), intact || !plane.zeros);
            if let Some(zeros) = zeros.ok().flatten() {
                assert!(zeros.len() == groups && zeros.iter().all(|zero| (-8..8).contains(zero)));
            }
        }
    }
}
