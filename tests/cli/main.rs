//! The program `fused-rans`.

#[cfg(target_os = "linux")]
mod faults;
mod large;
mod place;
mod plot;
mod program;
