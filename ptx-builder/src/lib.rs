//! Builds a Rust device crate to PTX with rustc's own `nvptx64-nvidia-cuda` backend, in the shape
//! of rust-cuda's `cuda_builder`.
//!
//! ```no_run
//! use fused_rans_ptx_builder::{Arch, PtxBuilder};
//!
//! let ptx = PtxBuilder::new("kernels-gpu").arch(Arch::Sm80).copy_to("kernels.ptx").build()?;
//! println!("{}", ptx.header().compiler);
//! # Ok::<(), fused_rans_ptx_builder::Error>(())
//! ```
//!
//! The device crate is an ordinary library without a `crate-type`: `no_std` on `nvptx64`, with a
//! panic handler there, its kernels `#[unsafe(no_mangle)] extern "ptx-kernel" fn`. It is built from
//! the workspace's `Cargo.lock`, with `core`, by a compiler of its own ([`Toolchain`]) in a target
//! directory of its own. A panic in device code becomes a `trap`; overflow is not checked.
//!
//! The same sources and the same compiler give the same bytes, wherever the checkout lies. The
//! first lines of the PTX are comments that say which compiler that was ([`Header`]).
//!
//! # Launch bounds
//!
//! Rust has no attribute for PTX's performance directives, so the device crate states them in a
//! comment, and the builder moves them to where PTX wants them, before the kernel's body:
//!
//! ```ignore
//! global_asm!("// entry-directives matvec: .maxntid {} .minnctapersm 2", const THREADS);
//! ```
#![forbid(unsafe_code)]

mod builder;
mod compiler;
mod environment;
mod error;
mod file;
mod ptx;
mod version;

pub use builder::{Arch, PtxBuilder};
pub use compiler::{FIRST_RELEASE, RUSTUP_TOOLCHAIN, Toolchain};
pub use error::Error;
pub use file::read_ptx;
pub use ptx::{Header, Ptx};
pub use version::Version;
