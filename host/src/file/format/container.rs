//! The header of a compressed file: how it is marked, sealed with a checksum, written and read.
//! `docs/format.md` in the repository is the specification.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};

use crate::file::error::{FileError, HeaderFault};
use crate::file::format::dtype::TensorDtype;
use crate::file::format::header::{Header, LENGTH_BYTES, MAX_HEADER, Tensor};
use crate::layout::LINE;

/// Version of the file format, which is frozen: see "Versions" in `docs/format.md`.
pub const VERSION: u32 = 1;

/// Start of every compressed file's header, in all versions.
const MARK: &str = r#"{"__metadata__":{"fused_rans":""#;

/// Metadata keys, in the order that they are written in.
const KEYS: [&str; 3] = ["fused_rans", "fused_rans.crc32c", "fused_rans.header"];

/// Placeholder of the header's checksum, while the checksum is computed.
const UNSEALED: &[u8; 8] = b"00000000";

/// Offset of the header's checksum in the header: after the mark, the version and a space.
const SEAL: usize = MARK.len() + 2;
const _: () = assert!(VERSION < 10, "the checksum's offset assumes a version of one digit");

/// Returns whether a header's text starts like a compressed file's.
pub(in crate::file) fn is_marked(text: &[u8]) -> bool {
    text.starts_with(MARK.as_bytes())
}

/// Returns whether a header's metadata has one of our keys, at any place.
pub(in crate::file) fn has_own_keys(header: &Header) -> bool {
    header.metadata.iter().any(|(key, _)| KEYS.contains(&key.as_str()))
}

/// A tensor of a compressed file.
pub(in crate::file) struct Stored<'a> {
    pub(in crate::file) name: &'a str,
    pub(in crate::file) dtype: TensorDtype,
    pub(in crate::file) shape: Cow<'a, [usize]>,
    pub(in crate::file) bytes: usize,
    pub(in crate::file) crc: u32,
}

/// Returns the offset of the compressed file's data section, before anything is compressed: it leaves room for the
/// longest header possible, since no tensor is stored in more than its own size.
pub(in crate::file) fn data_start(
    path: &Path,
    text: &str,
    header: &Header,
) -> Result<usize, FileError> {
    let count = header.tensors.len();
    let largest = header.data_len;
    let checksums = (9 * count).saturating_sub(1);
    let mut bytes = LENGTH_BYTES + metadata_json(text, "").len() + checksums + "}".len();
    for tensor in &header.tensors {
        let name = tensor.name.as_str();
        let raw = tensor_json(name, tensor.dtype, &tensor.shape, largest, largest).len();
        let blob =
            tensor_json(name, TensorDtype::U8, &[tensor.range.len()], largest, largest).len();
        bytes += if tensor.may_be_blob() { raw.max(blob) } else { raw };
    }
    let start = bytes.next_multiple_of(LINE);
    if start - LENGTH_BYTES > MAX_HEADER {
        let (bytes, limit) = ((start - LENGTH_BYTES) as u64, MAX_HEADER as u64);
        return Err(FileError::HeaderTooLarge { path: path.to_owned(), bytes, limit });
    }
    Ok(start)
}

/// Returns the first `data_start` bytes of a compressed file that stores `tensors` one after another; `text` is the
/// original header.
pub(in crate::file) fn head(text: &str, tensors: &[Stored<'_>], data_start: usize) -> Vec<u8> {
    let mut checksums = String::with_capacity(9 * tensors.len());
    for (index, tensor) in tensors.iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        write!(checksums, "{space}{:08x}", tensor.crc).expect("writing to a string");
    }
    let mut json = metadata_json(text, &checksums);
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.bytes;
        json.push_str(&tensor_json(tensor.name, tensor.dtype, &tensor.shape, start, end));
        start = end;
    }
    json.push('}');
    let length = data_start - LENGTH_BYTES;
    assert!(json.len() <= length, "the header fits the room computed for it");
    let mut head = Vec::with_capacity(data_start);
    head.extend_from_slice(&(length as u64).to_le_bytes());
    head.extend_from_slice(json.as_bytes());
    head.resize(data_start, b' ');
    let seal = format!("{:08x}", seal(&head));
    head[LENGTH_BYTES + SEAL..][..8].copy_from_slice(seal.as_bytes());
    head
}

/// Returns the start of the header: the metadata, with a placeholder for the checksum. Tensors and `}` follow.
fn metadata_json(text: &str, checksums: &str) -> String {
    let seal = std::str::from_utf8(UNSEALED).expect("ASCII");
    let [_, checksums_key, header_key] = KEYS;
    format!(
        r#"{MARK}{VERSION} {seal}","{checksums_key}":"{checksums}","{header_key}":{}}}"#,
        quoted(text)
    )
}

fn tensor_json(
    name: &str,
    dtype: TensorDtype,
    shape: &[usize],
    start: usize,
    end: usize,
) -> String {
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!(
        r#",{}:{{"dtype":"{dtype}","shape":[{}],"data_offsets":[{start},{end}]}}"#,
        quoted(name),
        sides.join(",")
    )
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

/// Returns the header's checksum: CRC-32C of length and text, with zeros in place of the checksum.
fn seal(head: &[u8]) -> u32 {
    let (before, rest) = head.split_at(LENGTH_BYTES + SEAL);
    crc32c_append(crc32c_append(crc32c(before), UNSEALED), &rest[UNSEALED.len()..])
}

/// Checks version and checksum of a marked file; `head` is its length and header.
pub(in crate::file) fn check_head(path: &Path, head: &[u8]) -> Result<(), FileError> {
    let malformed = |what| FileError::header(path)(HeaderFault::Metadata(what));
    let value = &head[LENGTH_BYTES + MARK.len()..];
    let found = version(value).ok_or_else(|| malformed("no version"))?;
    if found != VERSION {
        return Err(FileError::Version { path: path.to_owned(), found, supported: VERSION });
    }
    match value.get(2..12) {
        Some([stored @ .., b'"', b',']) => {
            let stored = checksum(stored).ok_or_else(|| malformed("no checksum"))?;
            if stored == seal(head) {
                Ok(())
            } else {
                Err(FileError::HeaderChecksum { path: path.to_owned() })
            }
        }
        _ => Err(malformed("no checksum")),
    }
}

/// Returns the version that `value` starts with: digits without leading zeros, up to a space.
fn version(value: &[u8]) -> Option<u32> {
    let digits = value.split(|&byte| byte == b' ').next()?;
    // Parsing accepts a sign and leading zeros.
    let text = std::str::from_utf8(digits).ok()?;
    text.parse().ok().filter(|version: &u32| version.to_string() == text)
}

/// Parses a checksum: eight lower-case hexadecimal digits.
fn checksum(digits: &[u8]) -> Option<u32> {
    let valid = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 8 || !digits.iter().all(valid) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The metadata of a compressed file: the original header's text and the tensors' checksums, in file order.
pub(in crate::file) struct Metadata {
    pub(in crate::file) text: String,
    pub(in crate::file) checksums: Vec<u32>,
}

impl Metadata {
    /// Moves the metadata out of a header whose checksum has been checked.
    pub(in crate::file) fn take(header: &mut Header) -> Result<Self, HeaderFault> {
        let entries = std::mem::take(&mut header.metadata);
        if !entries.iter().map(|(key, _)| key).eq(KEYS) {
            return Err(HeaderFault::Metadata("other keys than this version has"));
        }
        let mut values = entries.into_iter().map(|(_, value)| value).skip(1);
        let checksums = values.next().unwrap_or_default();
        let text = values.next().unwrap_or_default();
        let checksums: Option<Vec<u32>> = match checksums.as_str() {
            "" => Some(Vec::new()),
            list => list.split(' ').map(|digits| checksum(digits.as_bytes())).collect(),
        };
        match checksums {
            Some(checksums) if checksums.len() == header.tensors.len() => {
                Ok(Self { text, checksums })
            }
            _ => Err(HeaderFault::Metadata("not one checksum per tensor")),
        }
    }
}

/// Returns whether the tensor `stored` is a blob, given the tensor of that name in the original header. No tensor that
/// a blob can replace is itself `U8`.
pub(in crate::file) fn is_blob(original: &Tensor, stored: &Tensor) -> bool {
    original.may_be_blob() && stored.dtype == TensorDtype::U8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg_attr(debug_assertions, ignore = "takes seconds without optimization")]
    #[test]
    fn headers_that_no_reader_would_accept_are_refused() {
        let header = Header { metadata: Vec::new(), tensors: Vec::new(), data_len: 0 };
        let start = |text: &str| data_start(Path::new("in"), text, &header);
        // In JSON a quote takes two bytes. The longest header is 8 bytes short of whole lines.
        let empty = metadata_json("", "").len() + "}".len();
        let longest = (LENGTH_BYTES + MAX_HEADER) / LINE * LINE - LENGTH_BYTES;
        let mut text = "\"".repeat((longest - empty) / 2);
        text.push_str(&"x".repeat((longest - empty) % 2));
        assert_eq!(start(&text).unwrap(), LENGTH_BYTES + longest);
        text.push('x');
        let fault = start(&text).unwrap_err();
        let (expected, allowed) = ((longest + LINE) as u64, MAX_HEADER as u64);
        assert!(
            matches!(fault, FileError::HeaderTooLarge { bytes, limit, .. } if (bytes, limit) == (expected, allowed)),
            "{fault}"
        );
    }
}
