//! Files of PTX: plain text, or compressed if the file's name ends in `.lzma`.

use crate::Error;
use lzma_rust2::{LzmaOptions, LzmaReader, LzmaWriter};
use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

/// Reads the PTX text in a file. Decompresses it if the file's name ends in `.lzma`.
///
/// # Errors
///
/// If the file cannot be read, is not UTF-8, or is not compressed although its name ends in `.lzma`.
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
    path.extension().is_some_and(|extension| extension == "lzma")
}

/// Preset of the compression, from 0 to 9. This one looks for matches in the last 8 MiB, because kernels
/// resemble each other over a larger distance than the 32 KiB of gzip.
const PRESET: u32 = 6;

/// Compresses a text to the format of `.lzma` files, which `xz -dc` reads. The same text gives the same
/// bytes.
fn compress(text: &str) -> Vec<u8> {
    let (options, bytes) = (LzmaOptions::with_preset(PRESET), text.len() as u64);
    let encoder = LzmaWriter::new_use_header(Vec::new(), &options, Some(bytes));
    let written = encoder.and_then(|mut encoder| {
        encoder.write_all(text.as_bytes())?;
        encoder.finish()
    });
    written.expect("writing to a vector cannot fail")
}

/// Decompresses a text.
fn decompress(bytes: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    LzmaReader::new_mem_limit(bytes, u32::MAX, None)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_text_reads_back() {
        let text = ".version 7.4\n.target sm_80\n".repeat(1000);
        let bytes = compress(&text);
        assert!(bytes.len() < text.len() / 10);
        // Properties (lc 3, lp 0, pb 2), the dictionary's size, and the text's.
        assert_eq!(bytes[..5], [0x5D, 0, 0, 0x80, 0]);
        assert_eq!(bytes[5..13], (text.len() as u64).to_le_bytes());
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
        assert!(is_compressed(Path::new("ptx/kernels.ptx.lzma")));
        assert!(!is_compressed(Path::new("ptx.lzma/kernels.ptx")));
        let error = read_ptx("/nowhere/kernels.ptx.lzma").unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/kernels.ptx.lzma: "), "{error}");
    }
}
