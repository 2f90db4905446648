//! PTX in files: as it is, or compressed where the file's name ends in `.gz`.

use crate::Error;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

/// The PTX text in a file.
///
/// # Errors
///
/// Where the file cannot be read, or is not what its name says.
pub fn read_ptx(path: impl AsRef<Path>) -> Result<String, Error> {
    let path = path.as_ref();
    let text = if is_compressed(path) {
        fs::read(path).and_then(|bytes| decompress(&bytes))
    } else {
        fs::read_to_string(path)
    };
    text.map_err(file_error(path))
}

/// Leaves an equal file alone, so that nothing that depends on it is rebuilt.
pub(crate) fn write_if_changed(path: &Path, text: &str) -> Result<(), Error> {
    let bytes = if is_compressed(path) { compress(text) } else { text.into() };
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).map_err(file_error(path))
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// Neither a date nor a file's name gets in, so that the same text gives the same bytes.
fn compress(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(text.as_bytes());
    written.and_then(|()| encoder.finish()).expect("a vector takes all that is written")
}

fn decompress(bytes: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_text_reads_back_and_holds_nothing_else() {
        let text = ".version 7.4\n.target sm_80\n".repeat(1000);
        let bytes = compress(&text);
        assert!(bytes.len() < text.len() / 10);
        // RFC 1952: deflate, no flags (so no name), no date, slowest algorithm, unknown system.
        assert_eq!(bytes[..10], [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 255]);
        assert_eq!(decompress(&bytes).unwrap(), text);
    }

    #[test]
    fn what_is_cut_off_or_not_compressed_is_an_error() {
        let bytes = compress("ret;\n");
        for end in 0..bytes.len() {
            assert!(decompress(&bytes[..end]).is_err(), "{end} bytes");
        }
        assert!(decompress(b"// Generated: do not edit.").is_err());
    }

    #[test]
    fn the_name_decides() {
        assert!(is_compressed(Path::new("ptx/kernels.ptx.gz")));
        assert!(!is_compressed(Path::new("ptx.gz/kernels.ptx")));
        let error = read_ptx("/nowhere/kernels.ptx.gz").unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/kernels.ptx.gz: "), "{error}");
    }
}
