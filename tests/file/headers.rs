//! Crafted headers: correct checksums, wrong contents.

use std::error::Error;

use fused_rans::ErrorKind;
use fused_rans::file::{self, FileError, HeaderFault, Progress, TensorFault};

use fused_rans::{Blob, Dtype, Groups, Matrix, encode};
use half::f16;

use support::craft::{
    Files, bf16, compress, framed, noise, plain, resealed, sealed, tensor, unframed,
};
use support::crc::crc32c;

/// Returns a compressed file of two blobs (`a`, `b`) and two other tensors (`c`, `d`).
fn packed(files: &Files) -> Vec<u8> {
    let tensors = [
        tensor("a", "BF16", &[64, 48], bf16(64 * 48)),
        tensor("c", "F32", &[2], noise(8)),
        tensor("b", "BF16", &[48, 64], bf16(64 * 48)),
        tensor("d", "U8", &[8], noise(8)),
    ];
    files.packed(&plain(&tensors, "", 0))
}

/// Replaces `from` by `to` in the header, corrects the checksum, and returns the fault of the file.
fn fault_of(from: &str, to: &str) -> FileError {
    let files = Files::new();
    let bytes = resealed(&packed(&files), |header| {
        assert!(header.contains(from), "{from} in {header}");
        header.replacen(from, to, 1)
    });
    files.fault(&bytes)
}

fn header_fault(from: &str, to: &str) -> HeaderFault {
    match fault_of(from, to) {
        FileError::Header { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

fn tensor_fault(from: &str, to: &str) -> (String, TensorFault) {
    match fault_of(from, to) {
        FileError::Tensor { tensor, source, .. } => (tensor, source),
        other => panic!("{other:?}"),
    }
}

/// Tells whether the tensor `name` was refused for not matching the original header.
fn disagrees(found: &(String, TensorFault), name: &str) -> bool {
    found.0 == name && matches!(found.1, TensorFault::Original(_))
}

#[test]
fn the_header_is_as_documented() {
    let files = Files::new();
    let bytes = packed(&files);
    let (header, _) = unframed(&bytes);
    assert!(header.starts_with(r#"{"__metadata__":{"fused_rans":"1 "#));
    assert!((header.len() + 8).is_multiple_of(128));
    assert_eq!(sealed(&bytes), bytes, "the checksum is the documented one");
    assert_eq!(resealed(&bytes, |header| header), bytes, "no more padding than documented");
    let original = r#""fused_rans.header":"{\"a\": {\"shape\":[64, 48],"#;
    assert!(header.contains(original), "{header}");
}

/// Checks the example of `docs/format.md`.
#[test]
fn the_worked_example_holds() {
    let original = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let one = 1.0_f32.to_le_bytes();
    let header = concat!(
        r#"{"__metadata__":{"fused_rans":"1 3df6b475","fused_rans.crc32c":"dd54c4ab","#,
        r#""fused_rans.header":"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"},"#,
        r#""w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#
    );
    let expected = framed(&format!("{header}{}", " ".repeat(33)), &one);
    assert_eq!(Files::new().packed(&framed(original, &one)), expected);
    assert_eq!((crc32c(&[b"123456789"]), crc32c(&[&one])), (0xE306_9283, 0xDD54_C4AB));
}

#[test]
fn lengths_are_checked_before_use() {
    let files = Files::new();
    let bytes = packed(&files);
    let with_length = |length: u64| [&length.to_le_bytes(), &bytes[8..]].concat();
    for length in [u64::MAX, 1 << 63, 100_000_001] {
        let fault = files.fault(&with_length(length));
        let too_large = |source: &HeaderFault| matches!(source, HeaderFault::TooLarge(found) if *found == length);
        assert!(matches!(&fault, FileError::Header { source, .. } if too_large(source)));
    }
    for length in [100_000_000, bytes.len() as u64 - 7] {
        assert_eq!(files.fault(&with_length(length)).kind(), ErrorKind::InsufficientData);
    }
    for length in 0..unframed(&bytes).0.len() as u64 {
        files.fault(&with_length(length));
    }
}

/// The advice must be the same whether the rest of the file is valid or not: only the mark and the version are the same in
/// all versions.
#[test]
fn other_versions_say_what_to_do() {
    let files = Files::new();
    let bytes = packed(&files);
    let old = "is from before the format was frozen (this build reads version 1): compress the original again, or \
               decompress with the fused-rans release that wrote it";
    let new = "is newer than version 1, which this build reads: update fused-rans";
    for (version, advice) in [(0, old), (2, new), (10, new), (65535, new), (u32::MAX, new)] {
        let change = |rest: &str| {
            let text = format!(r#"{{"fused_rans":"{version} {rest}"#);
            resealed(&bytes, |header| header.replacen(r#"{"fused_rans":"1 "#, &text, 1))
        };
        let cut = framed(&unframed(&change("")).0[..50], b"");
        for bytes in [change(""), change("?"), cut] {
            let fault = files.fault(&bytes);
            let message = format!(
                "{}: file format version {version} {advice}",
                files.path("damaged").display()
            );
            assert_eq!((fault.kind(), fault.to_string()), (ErrorKind::Compatibility, message));
            assert!(
                matches!(fault, FileError::Version { found, supported: 1, .. } if found == version)
            );
        }
    }
}

#[test]
fn versions_are_numbers_without_leading_zeros() {
    let long = "1".repeat(1000);
    let others =
        ["", "x", "1x", "01", "00001", "00000", "+1", "-1", "1.0", "4294967296", "\u{661}", &long];
    for other in others {
        let fault = header_fault(r#"{"fused_rans":"1 "#, &format!(r#"{{"fused_rans":"{other} "#));
        assert!(matches!(fault, HeaderFault::Metadata("no version")), "{other}: {fault}");
    }
}

#[test]
fn metadata_is_strict() {
    let extra = header_fault(r#","fused_rans.header""#, r#","x":"y","fused_rans.header""#);
    assert!(matches!(extra, HeaderFault::Metadata(_)));
    let missing = header_fault(r#""fused_rans.crc32c":""#, r#""fused_rans.crc32c":"0000000g "#);
    assert!(matches!(missing, HeaderFault::Metadata(_)));
    let many = header_fault(r#""fused_rans.crc32c":""#, r#""fused_rans.crc32c":"00000000 "#);
    assert!(matches!(many, HeaderFault::Metadata(_)));
    let cut = header_fault(r#""fused_rans.header":"{"#, r#""fused_rans.header":""#);
    assert!(matches!(cut, HeaderFault::Original(_)));
}

#[test]
fn damage_to_the_checksum_itself_is_found() {
    let files = Files::new();
    let bytes = packed(&files);
    let (header, data) = unframed(&bytes);
    let upper = header.replacen(&header[33..41], "0123456A", 1);
    let fault = files.fault(&framed(&upper, &data));
    assert!(matches!(fault, FileError::Header { source: HeaderFault::Metadata(_), .. }));
    let other = header.replacen(&header[33..41], "01234567", 1);
    assert!(matches!(files.fault(&framed(&other, &data)), FileError::HeaderChecksum { .. }));
    let unaligned = sealed(&framed(&format!("{header} "), &data));
    let fault = files.fault(&unaligned);
    assert!(matches!(fault, FileError::Header { source: HeaderFault::Metadata(_), .. }));
}

#[test]
fn headers_rewritten_by_other_programs_are_refused() {
    let files = Files::new();
    let (header, data) = unframed(&packed(&files));
    let moved = header.replacen(r#"{"__metadata__":{"#, r#"{"__metadata__": {"#, 1);
    let bytes = framed(&moved, &data);
    let fault = files.fault(&bytes);
    assert!(matches!(fault, FileError::Header { source: HeaderFault::Metadata(_), .. }));
    let fault = compress(&files.put("in", &bytes), &files.path("out")).unwrap_err();
    assert!(matches!(fault, FileError::AlreadyCompressed { .. }));
    assert!(file::inspect(files.path("in")).is_err());
}

#[test]
fn tensors_must_fill_the_data_section() {
    let data = r#""data_offsets":[0,"#;
    assert!(matches!(header_fault(data, r#""data_offsets":[1,"#), HeaderFault::Offset(_)));
    let offset = |c: u8| format!(r#"{}":{{"dtype":"U8","shape":["#, char::from(c));
    assert!(matches!(header_fault(&offset(b'a'), &(offset(b'a') + "1")), HeaderFault::Size(_)));
    let huge = "18446744073709551616";
    assert!(matches!(
        header_fault(&offset(b'a'), &format!("{}{huge},", offset(b'a'))),
        HeaderFault::Json(_)
    ));
    assert!(
        matches!(header_fault(r#","b":{"#, r#","a":{"#), HeaderFault::Duplicate(name) if name == "a")
    );
    let trailing = |header: &str| header.rfind(",\"d\"").unwrap();
    let files = Files::new();
    let bytes = resealed(&packed(&files), |header| header[..trailing(&header)].to_owned() + "}");
    assert!(files.fault(&bytes).to_string().contains("invalid header"));
}

#[test]
fn the_original_header_must_agree() {
    // Escaped quotes are those of the original header, which is a string inside.
    assert!(disagrees(&tensor_fault(r#"{\"a\":"#, r#"{\"x\":"#), "x"));
    assert!(disagrees(&tensor_fault("[64, 48]", "[48, 64]"), "a"));
    assert!(disagrees(&tensor_fault("[64, 48]", "[3072, 1]"), "a"));
    assert!(disagrees(&tensor_fault(r#"\"dtype\":\"F32\""#, r#"\"dtype\":\"I32\""#), "c"));
    assert!(disagrees(&tensor_fault(r#"\"dtype\":\"BF16\""#, r#"\"dtype\":\"F16\""#), "a"));
    assert!(disagrees(&tensor_fault(r#"\"d\":"#, r#"\"e\":"#), "e"));
    let blob = r#""a":{"dtype":"U8","shape":["#;
    assert!(disagrees(&tensor_fault(blob, &format!("{blob}1,")), "a"));
    let huge = "[4294967296, 1073741824]";
    assert!(matches!(header_fault("[64, 48]", huge), HeaderFault::Original(_)));
    let duplicate = header_fault(r#"\"b\":"#, r#"\"a\":"#);
    let HeaderFault::Original(inner) = duplicate else { panic!("{duplicate:?}") };
    assert!(matches!(*inner, HeaderFault::Duplicate(_)));
}

#[test]
fn order_and_count_must_agree() {
    let files = Files::new();
    let bytes = packed(&files);
    let swapped = resealed(&bytes, |header| {
        let header = header.replacen(r#","c":{"#, r#","?":{"#, 1);
        header.replacen(r#","d":{"#, r#","c":{"#, 1).replacen(r#","?":{"#, r#","d":{"#, 1)
    });
    let FileError::Tensor { tensor, source, .. } = files.fault(&swapped) else { panic!() };
    assert!(disagrees(&(tensor, source), "c"));
    let extra = resealed(&bytes, |header| {
        let end = header.rfind(r#""data_offsets":["#).unwrap();
        let total: Vec<&str> = header[end..].split([',', ']']).collect();
        let entry =
            format!(r#","e":{{"dtype":"U8","shape":[0],"data_offsets":[{0},{0}]}}}}"#, total[1]);
        let header =
            header.replacen(r#""fused_rans.crc32c":""#, r#""fused_rans.crc32c":"00000000 "#, 1);
        header[..header.len() - 1].to_owned() + &entry
    });
    let FileError::Tensor { tensor, source, .. } = files.fault(&extra) else { panic!() };
    assert!(disagrees(&(tensor, source), "e"));
}

#[test]
fn wrong_checksums_in_a_right_header_are_found() {
    let files = Files::new();
    let bytes = packed(&files);
    let (header, _) = unframed(&bytes);
    let list = header.split('"').nth(9).expect("the checksums").to_owned();
    for (index, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let mut wrong: Vec<&str> = list.split(' ').collect();
        wrong[index] = "01234567";
        let bytes = resealed(&bytes, |header| header.replacen(&list, &wrong.join(" "), 1));
        let fault = files.fault(&bytes);
        let FileError::Tensor { ref tensor, source: TensorFault::Checksum, .. } = fault else {
            panic!("{fault:?}")
        };
        assert_eq!(tensor, name);
        assert!(fault.source().is_some(), "the cause is in the chain");
    }
}

/// Only quantized numbers have scales: a blob with scales cannot replace a tensor of integers.
#[test]
fn blobs_with_scales_are_refused_for_integer_tensors() {
    let (files, data) = (Files::new(), vec![3; 64 * 256]);
    let bytes = files.packed(&plain(&[tensor("a", "I8", &[64, 256], data.clone())], "", 0));
    let (header, blob) = unframed(&bytes);
    let matrix = Matrix::from_bytes(Dtype::I8, &data, 64, 256).unwrap();
    let groups = Groups { scales: &[f16::ONE; 128], zeros: None };
    let grouped = encode(matrix.with_groups(groups).unwrap()).unwrap().into_bytes();
    let crc = |blob: &[u8]| format!("{:08x}", Blob::parse(blob).unwrap().crc());
    let header = header.replace(&blob.len().to_string(), &grouped.len().to_string());
    let bytes = framed(&header.replace(&crc(&blob), &crc(&grouped)), &grouped);
    let FileError::Tensor { tensor, source, .. } = files.fault(&resealed(&bytes, |h| h)) else {
        panic!("it was accepted");
    };
    let expected = TensorFault::Original("the blob has another dtype or shape");
    assert_eq!((&*tensor, source), ("a", expected));
}

/// No header may cause a panic, even with a correct checksum. Some edits leave a valid file, with another name or other
/// metadata.
#[test]
fn random_edits_never_panic() {
    let files = Files::new();
    let bytes = packed(&files);
    let mut random = noise(4 * 3000).into_iter().map(usize::from);
    let mut errors = 0;
    let alphabet = br#"0123456789abcdef"\{}[]:, -.BFU"#;
    while let (Some(a), Some(b), Some(c), Some(d)) =
        (random.next(), random.next(), random.next(), random.next())
    {
        let edited = resealed(&bytes, |header| {
            let mut text = header.into_bytes();
            let place = 42 + (256 * a + b) % (text.len() - 42);
            let letter = alphabet[c % alphabet.len()];
            match d % 3 {
                0 => text[place] = letter,
                1 => text.insert(place, letter),
                _ => drop(text.remove(place)),
            }
            String::from_utf8(text).unwrap()
        });
        let path = files.put("edited", &edited);
        let opened = file::inspect(&path).is_ok();
        assert_eq!(opened, file::CompressedFile::open(&path).is_ok());
        errors += usize::from(file::verify(&path, Progress::silent()).is_err());
    }
    assert!(errors > 1500, "{errors}");
}
