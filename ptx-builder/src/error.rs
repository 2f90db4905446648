//! Errors of a build, with messages that say what to do.

use crate::compiler::{FIRST_RELEASE, RUSTUP_TOOLCHAIN};
use std::{fmt, io, path::PathBuf, process::ExitStatus};

/// A reason why no PTX was built.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no device crate at this path.
    NoCrate(PathBuf),
    /// No compiler can be used. Contains the reason for each one that was tried.
    NoCompiler(Vec<String>),
    /// The compiler, cargo or rustup could not be started.
    Start {
        /// Path of the program.
        program: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Cargo failed. Its messages went to standard error.
    Cargo(ExitStatus),
    /// A file could not be read or written.
    File {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error, or the error of a damaged compressed file.
        source: io::Error,
    },
    /// The parts of the crate differ in more than their kernels.
    Parts,
    /// An `entry-directives` comment names a kernel that the PTX does not define.
    NoKernel(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCrate(path) => write!(
                f,
                "no device crate at {}: PTX can be built only in a checkout of the repository; \
                 elsewhere, use the PTX that is part of the package",
                path.display()
            ),
            Self::NoCompiler(reasons) => {
                let (major, minor) = FIRST_RELEASE;
                write!(
                    f,
                    "no compiler for device code: it takes rustc {major}.{minor} or later, with the "
                )?;
                write!(
                    f,
                    "sources of its core library. Install Debian's rustc-web, cargo-web and "
                )?;
                write!(f, "rust-web-src, or run `rustup toolchain install {RUSTUP_TOOLCHAIN} ")?;
                write!(f, "--profile minimal --component rust-src`. Compilers tried:")?;
                reasons.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
            }
            Self::Start { program, source } => {
                write!(f, "cannot start {}: {source}", program.display())
            }
            Self::Parts => write!(
                f,
                "the parts of the device crate differ before their first kernel: only kernels may \
                 depend on features"
            ),
            Self::Cargo(status) => write!(
                f,
                "the device crate does not compile ({status}): see cargo's messages on standard error"
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
