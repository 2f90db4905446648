//! Faults of the world around a job (signals, full disks, limits of resources, files that others change), and sizes that no
//! header is believed.
//!
//! `cargo test --release --test faults -- --ignored` also takes a tensor of more than 2^32 bytes through everything, in
//! 8 GB of disk.
#![cfg(target_os = "linux")]

#[path = "faults/changes.rs"]
mod changes;
#[path = "file/craft.rs"]
#[allow(dead_code, reason = "made for the tests of single files, which use all of it")]
mod craft;
#[path = "common/crc.rs"]
mod crc;
#[path = "faults/disks.rs"]
mod disks;
#[path = "faults/headers.rs"]
mod headers;
#[path = "faults/job.rs"]
mod job;
#[path = "faults/large.rs"]
mod large;
#[path = "faults/memory.rs"]
mod memory;
#[path = "cli/place.rs"]
mod place;
#[path = "corruption/seal.rs"]
mod seal;
#[path = "faults/signals.rs"]
mod signals;
#[path = "faults/sizes.rs"]
mod sizes;
