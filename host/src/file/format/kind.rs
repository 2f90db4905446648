//! Files that are no safetensors files, recognized by their first bytes.

/// How many bytes are looked at.
const HEAD: usize = 512;

/// First bytes of other formats, what such a file is, and what to do.
const FORMATS: [(&[u8], &str, &str); 13] = [
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights",
        "download them with `git lfs pull`",
    ),
    (b"PK\x03\x04", "a zip archive, perhaps of PyTorch", SAVE),
    (b"\x80\x02", "a Python pickle", SAVE),
    (b"\x80\x03", "a Python pickle", SAVE),
    (b"\x80\x04", "a Python pickle", SAVE),
    (b"\x80\x05", "a Python pickle", SAVE),
    (
        b"GGUF",
        "a GGUF file",
        "convert it with `fused-rans-quality convert` (Llama architecture), or take the safetensors files it was made from",
    ),
    (b"\x89HDF", "an HDF5 file", SAVE),
    (b"\x93NUMPY", "a NumPy array", SAVE),
    (b"\x1F\x8B", "a gzip archive", "unpack it first"),
    (b"\x28\xB5\x2F\xFD", "a Zstandard archive", "unpack it first"),
    (b"\xFD7zXZ", "an xz archive", "unpack it first"),
    (b"7z\xBC\xAF", "a 7-Zip archive", "unpack it first"),
];

/// Advice for weights in formats of other programs.
const SAVE: &str = "load it with the program that wrote it, and save it as safetensors";

/// Advice for what a server answered instead of the file.
const DOWNLOAD: &str = "download the file again; the address may need a login";

/// Returns what a file that starts with `bytes` is, and what to do, if it is known. `len` is the file's length. Ask only
/// for files that are no safetensors files: the length of a header may look like another format's first bytes.
pub(in crate::file) fn other_format(
    bytes: &[u8],
    len: u64,
) -> Option<(&'static str, &'static str)> {
    let head = &bytes[..bytes.len().min(HEAD)];
    if let Some((_, what, advice)) = FORMATS.iter().find(|(start, ..)| head.starts_with(start)) {
        return Some((what, advice));
    }
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    let starts = |word: &str| {
        text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    if starts("<!doctype html") || starts("<html") || starts("<head") {
        return Some(("an HTML page, not the weights", DOWNLOAD));
    }
    if starts("<?xml") {
        return Some(("an XML document, not the weights", DOWNLOAD));
    }
    if starts("{") && head.iter().all(|&byte| byte >= b' ' || byte.is_ascii_whitespace()) {
        let advice = "name the weights, or an index, whose name ends in `.safetensors.index.json`";
        return Some(("JSON text", advice));
    }
    if len > 0 && head.iter().all(|&byte| byte == 0) {
        return Some((
            "full of zeros at its start",
            "download it again: it has not been completed",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_formats_are_recognized() {
        let what = |bytes: &[u8]| other_format(bytes, bytes.len() as u64).map(|(what, _)| what);
        assert_eq!(what(b"\x02\0\0\0\0\0\0\0{}"), None);
        assert_eq!(what(b""), None);
        assert_eq!(what(b"\xFF\xFF"), None);
        assert!(what(b"  <!DOCTYPE html>").is_some_and(|what| what.contains("HTML")));
        assert!(what(b"\xEF\xBB\xBF<HTML>").is_some_and(|what| what.contains("HTML")));
        assert!(what(b"{\"weight_map\": {}}").is_some_and(|what| what.contains("JSON")));
        assert!(what(&[0; 9]).is_some_and(|what| what.contains("zeros")));
        for (start, name, _) in FORMATS {
            assert_eq!(what(start), Some(name));
        }
    }
}
