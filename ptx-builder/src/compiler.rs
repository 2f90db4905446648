//! Finds a compiler for device code.

use crate::{Error, Version, environment::clean_command};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest release, (major, minor), whose nvptx64 backend compiles the kernels.
pub const FIRST_RELEASE: (u32, u32) = (1, 96);

/// The rustup toolchain that [`Toolchain::Auto`] looks for.
pub const RUSTUP_TOOLCHAIN: &str = "1.96.0";

/// Path of Debian's compiler.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// The compiler that builds the device crate. It needs the source code of its own core library, and
/// the cargo of the same release in the same folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Toolchain {
    /// `/usr/bin/rustc` if it is new enough and has the source code, else the rustup toolchain
    /// [`RUSTUP_TOOLCHAIN`].
    #[default]
    Auto,
    /// The rustc at this path.
    Rustc(PathBuf),
    /// The rustup toolchain of this name.
    Rustup(String),
}

impl Toolchain {
    /// Reads a user's setting: `1` or `auto`, the path of a rustc (with a `/`), or the name of a
    /// rustup toolchain.
    #[must_use]
    pub fn from_setting(setting: &str) -> Self {
        match setting {
            "1" | "auto" => Self::Auto,
            path if path.contains(['/', '\\']) => Self::Rustc(path.into()),
            name => Self::Rustup(name.to_owned()),
        }
    }

    /// Returns the compilers to try, in this order. None of them is [`Toolchain::Auto`].
    fn candidates(&self) -> Vec<Self> {
        match self {
            Self::Auto => {
                vec![Self::Rustc(SYSTEM_RUSTC.into()), Self::Rustup(RUSTUP_TOOLCHAIN.to_owned())]
            }
            explicit => vec![explicit.clone()],
        }
    }
}

/// A compiler that can build device crates.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) version: Version,
}

impl Compiler {
    /// Returns the first usable compiler of `toolchain`. Runs the programs in `directory`.
    pub(crate) fn find(toolchain: &Toolchain, directory: &Path) -> Result<Self, Error> {
        first_usable(toolchain.candidates(), |candidate| Self::examine(candidate, directory))
            .map_err(Error::NoCompiler)
    }

    /// Returns the compiler of a toolchain other than [`Toolchain::Auto`], or the reason why it cannot
    /// be used.
    fn examine(toolchain: &Toolchain, directory: &Path) -> Result<Self, String> {
        let rustc = match toolchain {
            Toolchain::Rustc(path) => std::path::absolute(path).map_err(|e| e.to_string())?,
            Toolchain::Rustup(name) => rustup_rustc(name, directory)?,
            Toolchain::Auto => unreachable!("`candidates` replaces it"),
        };
        let ask = |arguments: &[&str]| {
            let mut command = clean_command(&rustc, directory);
            output(command.args(arguments)).map_err(|why| format!("{}: {why}", rustc.display()))
        };
        let version = Version::parse(&ask(&["-Vv"])?)
            .ok_or_else(|| format!("{}: this program is not rustc", rustc.display()))?;
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim());
        let cargo = rustc.with_file_name(format!("cargo{}", std::env::consts::EXE_SUFFIX));
        let compiler = Self { rustc, cargo, version };
        compiler.check(&sysroot).map_err(|why| format!("{}: {why}", compiler.rustc.display()))?;
        Ok(compiler)
    }

    /// Checks the compiler's release, the source code of its core library, and its cargo.
    fn check(&self, sysroot: &Path) -> Result<(), String> {
        if self.version.major_minor().is_none_or(|release| release < FIRST_RELEASE) {
            return Err(format!("release {} is too old", self.version.release));
        }
        let sources = sysroot.join("lib/rustlib/src/rust/library");
        if !sources.join("core/Cargo.toml").is_file() {
            return Err(format!("no sources of the core library in {}", sources.display()));
        }
        if !self.cargo.is_file() {
            return Err("no cargo in the same folder".to_owned());
        }
        Ok(())
    }
}

/// Returns the result for the first candidate that `examine` accepts, else its reasons against every
/// candidate.
fn first_usable<C, T>(
    candidates: impl IntoIterator<Item = C>,
    examine: impl Fn(&C) -> Result<T, String>,
) -> Result<T, Vec<String>> {
    let mut reasons = Vec::new();
    for candidate in candidates {
        match examine(&candidate) {
            Ok(found) => return Ok(found),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons)
}

/// Returns the path of a rustup toolchain's rustc.
fn rustup_rustc(name: &str, directory: &Path) -> Result<PathBuf, String> {
    let mut command = clean_command(Path::new("rustup"), directory);
    command.env("RUSTUP_AUTO_INSTALL", "0").args(["which", "--toolchain", name, "rustc"]);
    let path = output(&mut command).map_err(|why| format!("rustup toolchain {name}: {why}"))?;
    Ok(path.trim().into())
}

/// Runs a command. Returns its standard output, or the first line of its error messages.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let messages = String::from_utf8_lossy(&output.stderr);
        Err(messages.lines().next().unwrap_or("failed").to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::tests::DEBIAN;
    use std::cell::RefCell;

    #[test]
    fn settings() {
        assert_eq!(Toolchain::from_setting("1"), Toolchain::Auto);
        assert_eq!(Toolchain::from_setting("auto"), Toolchain::Auto);
        assert_eq!(Toolchain::from_setting("/opt/rustc"), Toolchain::Rustc("/opt/rustc".into()));
        assert_eq!(Toolchain::from_setting("1.96.0"), Toolchain::Rustup("1.96.0".into()));
    }

    #[test]
    fn auto_tries_the_system_before_rustup_and_a_choice_has_no_alternative() {
        let system = Toolchain::Rustc("/usr/bin/rustc".into());
        let rustup = Toolchain::Rustup("1.96.0".into());
        assert_eq!(Toolchain::Auto.candidates(), [system.clone(), rustup.clone()]);
        assert_eq!(system.candidates(), [system]);
        assert_eq!(rustup.candidates(), [rustup]);
    }

    #[test]
    fn the_first_usable_compiler_ends_the_search() {
        let seen = RefCell::new(Vec::new());
        let examine = |&candidate: &u32| {
            seen.borrow_mut().push(candidate);
            if candidate < 2 { Err(format!("{candidate} is small")) } else { Ok(candidate) }
        };
        assert_eq!(first_usable([1, 2, 3], examine), Ok(2));
        assert_eq!(*seen.borrow(), [1, 2]);
        assert_eq!(
            first_usable([0, 1], examine),
            Err(vec!["0 is small".into(), "1 is small".into()])
        );
    }

    #[test]
    fn an_old_compiler_and_one_without_sources_are_refused() {
        let compiler = |release: &str| Compiler {
            rustc: "/nowhere/rustc".into(),
            cargo: "/nowhere/cargo".into(),
            version: Version::parse(&DEBIAN.replace("1.96.0", release)).unwrap(),
        };
        let why = |release| compiler(release).check(Path::new("/nowhere")).unwrap_err();
        assert_eq!(why("1.95.9"), "release 1.95.9 is too old");
        assert!(why("1.96.0").starts_with("no sources"));
        assert!(why("2.0.0").starts_with("no sources"));
    }

    #[test]
    fn a_missing_compiler_is_named() {
        let toolchain = Toolchain::Rustc("/nowhere/rustc".into());
        let error = Compiler::find(&toolchain, Path::new(".")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/rustc: ") && error.contains("rustup toolchain install"));
    }
}
