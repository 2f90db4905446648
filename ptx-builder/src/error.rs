//! What can go wrong, and what to do about it.

use crate::compiler::{FIRST_RELEASE, RUSTUP_TOOLCHAIN};
use std::{fmt, io, path::PathBuf, process::ExitStatus};

/// Why there is no PTX.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no device crate at this path.
    NoCrate(PathBuf),
    /// No compiler fits; for each one looked at, why not.
    NoCompiler(Vec<String>),
    /// The compiler, cargo or rustup could not be started.
    Start {
        /// The program.
        program: PathBuf,
        /// Why it did not start.
        source: io::Error,
    },
    /// cargo failed. What it wrote went to standard error.
    Cargo(ExitStatus),
    /// A file could not be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The parts of the crate differ in more than their kernels.
    Parts,
    /// Directives are stated for a kernel that the PTX does not define.
    NoKernel(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCrate(path) => write!(
                f,
                "no device crate at {}: PTX can be built only in a checkout of the repository; \
                 elsewhere use the PTX that is shipped",
                path.display()
            ),
            Self::NoCompiler(reasons) => {
                let (major, minor) = FIRST_RELEASE;
                write!(
                    f,
                    "no device compiler: rustc {major}.{minor} or later is wanted, with the "
                )?;
                write!(
                    f,
                    "sources of its core library. Install Debian's rustc-web, cargo-web and "
                )?;
                write!(f, "rust-web-src, or run `rustup toolchain install {RUSTUP_TOOLCHAIN} ")?;
                write!(f, "--profile minimal --component rust-src`. Looked at:")?;
                reasons.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
            }
            Self::Start { program, source } => {
                write!(f, "cannot start {}: {source}", program.display())
            }
            Self::Parts => write!(
                f,
                "the parts of the device crate do not start alike: what they share must not depend \
                 on features"
            ),
            Self::Cargo(status) => write!(
                f,
                "the device crate does not build ({status}); cargo's messages stand on standard error"
            ),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::NoKernel(name) => write!(
                f,
                "`entry-directives {name}` names no kernel of the PTX: correct the name, or make \
                 the kernel `#[unsafe(no_mangle)] pub`"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { source, .. } | Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
