//! Faults of the world around a job (signals, full disks, limits of resources, files that others change), and sizes that no
//! header is believed.
//!
//! `cargo test --release --test cli faults -- --ignored` also takes a tensor of more than 2^32 bytes through everything, in
//! 8 GB of disk.
mod changes;
mod disks;
mod headers;
mod job;
mod large;
mod memory;
mod signals;
mod sizes;
