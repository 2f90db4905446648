//! The program `fused-rans`.

mod cases;
#[cfg(target_os = "linux")]
mod faults;
mod large;
mod place;
mod plot;
mod program;
