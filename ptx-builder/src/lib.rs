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
//! The device crate is an ordinary library without a `crate-type`. On `nvptx64` it is `no_std` and
//! defines a panic handler. Its kernels are `#[unsafe(no_mangle)] extern "ptx-kernel" fn`.
//!
//! The builder compiles the crate and `core` with a compiler of their own ([`Toolchain`]), in a target
//! directory of their own. It uses the workspace's `Cargo.lock`. A panic in device code becomes a
//! `trap`; overflow is not checked.
//!
//! The same sources and the same compiler give the same bytes, in any folder. The first lines of the
//! PTX are comments that name the compiler ([`Header`]).
//!
//! # Launch bounds
//!
//! Rust has no attribute for PTX's performance directives. The device crate states them in a comment
//! of the assembly, and the builder moves them to their place before the kernel's body:
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
mod kernel_set;
mod ptx;
mod version;

pub use builder::{Arch, PtxBuilder};
pub use compiler::{FIRST_RELEASE, RUSTUP_TOOLCHAIN, Toolchain};
pub use error::Error;
pub use file::read_ptx;
pub use kernel_set::KernelSet;
pub use ptx::{Header, Ptx};
pub use version::Version;
