//! Makes mutants of compressed files: changes words and entries of the header, tensors, and parts of blobs.

use std::ops::Range;

use fused_rans::Blob;
use fused_rans::file::{CompressOptions, Progress, compress};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use safetensors::SafeTensors;
use safetensors::tensor::TensorInfo;

use support::craft::{Files, Tensor, bf16, framed, noise, plain, sealed, tensor, unframed};
use support::crc::crc32c;
use support::golden::GOLDEN;
use support::mutate::{mutate, pick};
use support::readers;
use support::seal::{self, CRC, get, interesting};

/// Length of the header's start, up to the end of its checksum, which stays unchanged.
const START: usize = 42;

/// Characters of JSON and numbers.
const LETTERS: &str = r#"0123456789abcdef"\{}[]:, -.BFU"#;

/// A valid compressed file.
pub struct Container {
    header: String,
    data: Vec<u8>,
    /// Byte ranges of its tensors in the data.
    tensors: Vec<Range<usize>>,
    /// The original file.
    pub restored: Vec<u8>,
}

/// A changed file.
pub struct Mutant {
    /// The file with the original checksums.
    pub unsealed: Vec<u8>,
    /// The file with corrected checksums.
    pub resealed: Vec<u8>,
}

/// Returns a lossless file of all types, and a file of each quantized format.
pub fn containers() -> Vec<Container> {
    let golden = |name: &str| {
        let golden =
            GOLDEN.iter().find(|golden| golden.name == name).expect("there is such a case");
        tensor(name, golden.dtype.name(), &[golden.rows, golden.cols], golden.weights())
    };
    let blobs = ["bf16_odd", "f16_odd", "f8_e4m3_odd", "i8_r0_raw_tile", "i8_constant"].map(golden);
    let others = [tensor("raw", "F32", &[3], noise(12)), tensor("none", "BF16", &[0, 3], vec![])];
    let lossless = [&blobs[..], &others].concat();
    let numbers = [
        tensor("kept", "BF16", &[4], bf16(4)),
        tensor("x_proj.weight", "BF16", &[35, 130], bf16(35 * 130)),
        tensor("y_proj.weight", "BF16", &[50, 64], bf16(50 * 64)),
    ];
    let formats = ["int8", "fp8", "int4", "int4-zero-points", "rate=3"];
    let options =
        formats.map(|format| CompressOptions::default().quantize(format.parse().unwrap()));
    let quantized = options.iter().map(|options| Container::new(&numbers, options));
    let plain = [Container::new(&lossless, &CompressOptions::default())];
    plain.into_iter().chain(quantized).collect()
}

impl Container {
    fn new(tensors: &[Tensor], options: &CompressOptions) -> Self {
        let files = Files::new();
        let input = files.put("plain", &plain(tensors, r#"{"k":"v"}"#, 3));
        let summary = compress(&input, files.path("packed"), options, Progress::silent()).unwrap();
        assert!(summary.blobs > 1, "{summary:?}");
        let packed = std::fs::read(files.path("packed")).unwrap();
        let restored = files.unpacked(&packed).unwrap();
        let (header, data) = unframed(&packed);
        let (_, metadata) = SafeTensors::read_metadata(&packed).unwrap();
        let place = |info: &TensorInfo| info.data_offsets.0..info.data_offsets.1;
        let mut tensors: Vec<_> = metadata.tensors().into_values().map(place).collect();
        tensors.sort_by_key(|place| place.start);
        Self { header, data, tensors, restored }
    }

    /// Returns the file unchanged.
    pub fn bytes(&self) -> Vec<u8> {
        framed(&self.header, &self.data)
    }

    /// Makes one to three changes. A seed always gives the same mutant.
    pub fn mutate(&self, seed: u64) -> Mutant {
        let mut random = SmallRng::seed_from_u64(seed);
        let (start, text) = self.header.trim_end().split_at(START);
        let (mut text, mut data) = (text.to_owned(), self.data.clone());
        for _ in 0..random.random_range(1..4) {
            match random.random_range(0..8) {
                0 => text = words(&text, &mut random),
                1 => text = entries(&text, &mut random),
                2 => text = letter(&text, &mut random),
                3 => self.exchange(&mut data, &mut random),
                _ => self.damage(&mut data, &mut random),
            }
        }
        if random.random_ratio(1, 20) {
            data.resize(random.random_range(0..data.len() + 256), 0);
        }
        let header = self.padded(format!("{start}{text}"));
        Mutant { unsealed: framed(&header, &data), resealed: self.resealed(header, data) }
    }

    /// Pads `header` to the original length, then to a whole line.
    fn padded(&self, header: String) -> String {
        let header = format!("{header:<width$}", width = self.header.len());
        let width = (8 + header.len()).next_multiple_of(128) - 8;
        format!("{header:<width$}")
    }

    /// Returns the file with corrected checksums of blobs, tensors and header.
    fn resealed(&self, mut header: String, mut data: Vec<u8>) -> Vec<u8> {
        for place in &self.tensors {
            let old = &self.data[place.clone()];
            let Some(tensor) = data.get_mut(place.clone()).filter(|tensor| tensor != &old) else {
                continue;
            };
            if is_blob(tensor) {
                seal::reseal(tensor);
                // Corrects the checksum of the weights as well.
                let _ = readers::decode(tensor);
            }
            header = header.replace(&checksum(old), &checksum(tensor));
        }
        sealed(&framed(&header, &data))
    }

    /// Exchanges the bytes of two tensors, up to the length of the shorter one.
    fn exchange(&self, data: &mut [u8], random: &mut impl Rng) {
        let [one, other] = [(); 2].map(|()| pick(&self.tensors, random));
        for (a, b) in one.clone().zip(other.clone()) {
            data.swap(a, b);
        }
    }

    /// Changes a blob, or a byte of another tensor.
    fn damage(&self, data: &mut [u8], random: &mut impl Rng) {
        let place = pick(&self.tensors, random).clone();
        let tensor = &mut data[place];
        if Blob::parse(tensor).is_ok() {
            let mut mutant = mutate(tensor, random.random());
            mutant.resize(tensor.len(), 0);
            tensor.copy_from_slice(&mutant);
        } else if let Some(last) = tensor.len().checked_sub(1) {
            tensor[random.random_range(0..=last)] ^= 1 << random.random_range(0..8);
        }
    }
}

fn is_blob(tensor: &[u8]) -> bool {
    tensor.starts_with(b"fRNS") && tensor.len() >= 128
}

/// Returns a tensor's checksum as the header spells it.
fn checksum(tensor: &[u8]) -> String {
    let crc = if is_blob(tensor) { get(tensor, CRC.0, CRC.1) } else { crc32c(&[tensor]).into() };
    format!("{crc:08x}")
}

/// Replaces a name, number or checksum by another one, or a number by a value at which its meaning may change.
fn words(text: &str, random: &mut impl Rng) -> String {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: Vec<&str> = text.split(|c| !is_inside(c)).filter(|word| !word.is_empty()).collect();
    let place = |word: &str| word.as_ptr().addr() - text.as_ptr().addr();
    let (word, other) = (*pick(&words, random), *pick(&words, random));
    let new = match word.parse() {
        Ok(number) if random.random() => {
            let numbers: Vec<u64> = interesting(number, 8).into_iter().collect();
            pick(&numbers, random).to_string()
        }
        _ => other.to_owned(),
    };
    let at = place(word);
    [&text[..at], &new, &text[at + word.len()..]].concat()
}

/// Exchanges, repeats or removes entries of one of the two headers.
fn entries(text: &str, random: &mut impl Rng) -> String {
    let mut entries: Vec<&str> = text.split("},").collect();
    let [one, other] = [(); 2].map(|()| random.random_range(0..entries.len()));
    match random.random_range(0..3) {
        0 => entries.swap(one, other),
        1 => entries.insert(one, entries[other]),
        _ => drop(entries.remove(one)),
    }
    entries.join("},")
}

/// Inserts, removes or replaces a character.
fn letter(text: &str, random: &mut impl Rng) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let at = random.random_range(0..letters.len());
    let letter = *pick(&LETTERS.chars().collect::<Vec<_>>(), random);
    match random.random_range(0..3) {
        0 => letters.insert(at, letter),
        1 => drop(letters.remove(at)),
        _ => letters[at] = letter,
    }
    letters.into_iter().collect()
}
