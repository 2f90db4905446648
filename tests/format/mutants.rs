//! Mutants of valid blobs and files. With the original checksums, every change is an error. With corrected checksums a
//! mutant is refused, or both decoders and the GPU's decode step give the same weights.
//!
//! `FUSED_RANS_MUTANTS=100000 cargo test --release --test format mutants -- --nocapture` tries 100,000.

mod file;
mod tally;

use std::time::Instant;
use support::{allocation, mutate, readers, seal, step};

use file::{Mutant, containers};
use fused_rans::file::{CompressedFile, FileError, Progress, verify};
use fused_rans::{Blob, BlobError};
use support::craft::Files;
use support::victim::victims;
use tally::{Outcome, Tally, Watched};

/// Returns the number of mutants to try.
fn mutants() -> u64 {
    std::env::var("FUSED_RANS_MUTANTS").map_or(4000, |count| count.parse().expect("a number"))
}

/// Runs `test` with this thread as rayon's only one, so that [`allocation`] sees every allocation.
fn alone(test: impl FnOnce() + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build().expect("it has this thread").install(test);
}

/// Tries three of four mutants.
#[test]
fn mutants_of_blobs() {
    alone(|| {
        let (mut kept, mut right, start) = (Tally::default(), Tally::default(), Instant::now());
        for seed in 0..mutants() * 3 / 4 {
            let _watched = Watched(seed);
            let victim = &victims()[seed as usize % victims().len()];
            let mut mutant = mutate::mutate(&victim.bytes, seed);
            let outcome = Outcome::new(read_blob(&mutant), &victim.weights);
            let exact = outcome == Outcome::Exact;
            assert_eq!(exact, mutant == victim.bytes, "{}: {outcome:?}", victim.name);
            kept.add(outcome);
            seal::reseal(&mut mutant);
            right.add(Outcome::new(agree(&mut mutant), &victim.weights));
        }
        assert_eq!(kept.others(), 0);
        kept.print("blobs, original checksums");
        right.print("blobs, corrected checksums");
        println!("in {:.1?}", start.elapsed());
        assert!(right.others() > right.all() / 10, "hardly a mutant is read");
    });
}

/// Tries one of four mutants.
#[test]
fn mutants_of_files() {
    alone(|| {
        let (mut kept, mut right, start) = (Tally::default(), Tally::default(), Instant::now());
        let (files, containers) = (Files::new(), containers());
        for seed in 0..mutants() / 4 {
            let _watched = Watched(seed);
            let container = &containers[seed as usize % containers.len()];
            let Mutant { unsealed, resealed } = container.mutate(seed);
            let outcome = Outcome::new(read_file(&files, &unsealed), &container.restored);
            let exact = outcome == Outcome::Exact;
            assert_eq!(exact, unsealed == container.bytes(), "{outcome:?}");
            kept.add(outcome);
            right.add(Outcome::new(read_file(&files, &resealed), &container.restored));
        }
        assert_eq!(kept.others(), 0);
        kept.print("files, original checksums");
        right.print("files, corrected checksums");
        println!("in {:.1?}", start.elapsed());
        assert!(right.others() > right.all() / 20, "hardly a mutant is read");
    });
}

/// Decodes `bytes` unchanged.
fn read_blob(bytes: &[u8]) -> Result<Vec<u8>, BlobError> {
    let blob = readers::parse(bytes)?;
    let mut weights = vec![0; blob.decoded_byte_len()];
    blob.decode(&mut weights).map(|()| weights)
}

/// Decodes with all decoders after correcting the weights' checksum. Checks that they agree and that no allocation is larger
/// than the blob justifies.
fn agree(bytes: &mut [u8]) -> Result<Vec<u8>, BlobError> {
    let (weights, largest) = allocation::largest(|| readers::decode(bytes));
    let weights = weights?;
    assert!(largest <= weights.len() + bytes.len() + (1 << 16), "decoding took {largest} bytes");
    step::check(&Blob::parse(bytes)?, &weights);
    Ok(weights)
}

/// Restores a compressed file. Checks that all readers accept or refuse it, and that all decoders agree on its blobs.
fn read_file(files: &Files, bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let restored = files.unpacked(bytes);
    let path = files.path("damaged");
    let (opened, largest) = allocation::largest(|| CompressedFile::open(&path));
    let limit = 4 * bytes.len() + (1 << 16);
    assert!(largest <= limit, "opening {} bytes took {largest}", bytes.len());
    assert_eq!(verify(&path, Progress::silent()).is_ok(), restored.is_ok());
    let (opened, restored) = (opened?, restored?);
    for name in opened.blob_names() {
        agree(&mut opened.blob(name)?.as_bytes().to_vec()).expect("it was verified");
    }
    Ok(restored)
}
