//! CRC-32C, computed bit by bit from its definition, independently of the library.

/// Returns the CRC-32C of the concatenated `parts`.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().copied().flatten().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0x82F6_3B78))
    })
}
