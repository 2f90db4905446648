//! Files of PTX: plain text, or compressed if the file's name ends in `.gz`.

use crate::Error;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

/// Reads the PTX text in a file. Decompresses it if the file's name ends in `.gz`.
///
/// # Errors
///
/// If the file cannot be read, is not UTF-8, or is not compressed although its name ends in `.gz`.
pub fn read_ptx(path: impl AsRef<Path>) -> Result<String, Error> {
    let path = path.as_ref();
    let text = if is_compressed(path) {
        fs::read(path).and_then(|bytes| decompress(&bytes))
    } else {
        fs::read_to_string(path)
    };
    text.map_err(file_error(path))
}

/// Writes PTX to a file. Does not write a file that has the same content already, so that cargo does
/// not rebuild what depends on it.
pub(crate) fn write_if_changed(path: &Path, text: &str) -> Result<(), Error> {
    let bytes = if is_compressed(path) { compress(text) } else { text.into() };
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).map_err(file_error(path))
}

/// Returns a function that adds a path to an I/O error.
pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}

/// Returns whether the file's name says that its content is compressed.
fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// Compresses a text. Stores neither a date nor a file's name, so that the same text gives the same
/// bytes.
fn compress(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(text.as_bytes());
    written.and_then(|()| encoder.finish()).expect("writing to a vector cannot fail")
}

/// Decompresses a text.
fn decompress(bytes: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_text_reads_back_without_name_and_date() {
        let text = ".version 7.4\n.target sm_80\n".repeat(1000);
        let bytes = compress(&text);
        assert!(bytes.len() < text.len() / 10);
        // RFC 1952: deflate, no flags (so no name), no date, slowest algorithm, unknown system.
        assert_eq!(bytes[..10], [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 255]);
        assert_eq!(decompress(&bytes).unwrap(), text);
    }

    #[test]
    fn truncated_and_uncompressed_files_are_errors() {
        let bytes = compress("ret;\n");
        for end in 0..bytes.len() {
            assert!(decompress(&bytes[..end]).is_err(), "{end} bytes");
        }
        assert!(decompress(b"// Generated: do not edit.").is_err());
    }

    #[test]
    fn the_file_name_decides_about_compression() {
        assert!(is_compressed(Path::new("ptx/kernels.ptx.gz")));
        assert!(!is_compressed(Path::new("ptx.gz/kernels.ptx")));
        let error = read_ptx("/nowhere/kernels.ptx.gz").unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/kernels.ptx.gz: "), "{error}");
    }
}
