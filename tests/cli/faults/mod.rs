//! Faults from outside (signals, full disks, resource limits, files that change during a job) and headers that claim sizes
//! far beyond their file.
//!
//! `cargo test --release --test cli faults -- --ignored` also compresses, verifies and restores a tensor of more than 2^32
//! bytes. It needs 8 GB of disk.

mod changes;
mod disks;
mod headers;
mod job;
mod large;
mod memory;
mod signals;
mod sizes;
