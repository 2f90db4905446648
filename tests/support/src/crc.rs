//! CRC-32C from its definition, independent of the library's.

/// CRC-32C of `parts`, one behind the other.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().copied().flatten().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0x82F6_3B78))
    })
}
