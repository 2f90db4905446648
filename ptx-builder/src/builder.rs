//! Builds a device crate to PTX.

use crate::{
    Error, Ptx, Toolchain,
    compiler::Compiler,
    environment::clean_command,
    file::{file_error, write_if_changed},
};
use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{self, Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// The GPU architecture to generate code for. PTX for one architecture runs on all later ones, except
/// that PTX for an `a` architecture runs on that architecture only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// Ampere and later.
    #[default]
    Sm80,
    /// Hopper and later.
    Sm90,
    /// Hopper only. Allows `wgmma`.
    Sm90a,
}

impl Arch {
    /// Returns the architecture's name in ptxas and rustc, such as `sm_80`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm90 => "sm_90",
            Self::Sm90a => "sm_90a",
        }
    }
}

/// Builds a device crate to PTX. Start with [`PtxBuilder::new`], change settings, and call
/// [`PtxBuilder::build`].
#[derive(Clone, Debug)]
pub struct PtxBuilder {
    crate_dir: PathBuf,
    arch: Arch,
    ptx_version: Option<(u32, u32)>,
    toolchain: Toolchain,
    parts: Vec<String>,
    target_dir: Option<PathBuf>,
    copy_to: Option<PathBuf>,
}

impl PtxBuilder {
    /// Returns a builder of the device crate in the directory `crate_dir`, for [`Arch::Sm80`].
    #[must_use]
    pub fn new(crate_dir: impl Into<PathBuf>) -> Self {
        Self {
            crate_dir: crate_dir.into(),
            arch: Arch::default(),
            ptx_version: None,
            toolchain: Toolchain::Auto,
            parts: Vec::new(),
            target_dir: None,
            copy_to: None,
        }
    }

    /// Generates code for `arch`.
    #[must_use]
    pub fn arch(mut self, arch: Arch) -> Self {
        self.arch = arch;
        self
    }

    /// Writes PTX of ISA version `major.minor` instead of the oldest that the architecture allows.
    /// A driver reads PTX up to its own version: 7.8 needs CUDA 11.8, and 8.0 needs CUDA 12.0.
    #[must_use]
    pub fn ptx_version(mut self, major: u32, minor: u32) -> Self {
        self.ptx_version = Some((major, minor));
        self
    }

    /// Builds with this compiler. The default is [`Toolchain::Auto`].
    #[must_use]
    pub fn toolchain(mut self, toolchain: Toolchain) -> Self {
        self.toolchain = toolchain;
        self
    }

    /// Builds the crate once per part, with only the part's features enabled: one feature, or several
    /// with commas between them. The builds run in parallel. The PTX contains the kernels of all of
    /// them, in this order. Without parts, the crate is built once, with its default features.
    #[must_use]
    pub fn parts(mut self, parts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.parts = parts.into_iter().map(Into::into).collect();
        self
    }

    /// Builds in this directory. The default is the folder `ptx-builder` in `OUT_DIR` if that variable
    /// is set (build scripts), else in `CARGO_TARGET_DIR`, else in the crate's `target`.
    #[must_use]
    pub fn target_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.target_dir = Some(path.into());
        self
    }

    /// Writes the PTX to this file, unless the file has the same content already. Compresses the PTX if
    /// the file's name ends in `.lzma`.
    #[must_use]
    pub fn copy_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.copy_to = Some(path.into());
        self
    }

    /// Builds the PTX. Cargo's messages go to standard error.
    ///
    /// # Errors
    ///
    /// If there is no such crate or no compiler for it, if the crate does not compile, or if a file
    /// cannot be written. The message says what to do.
    pub fn build(&self) -> Result<Ptx, Error> {
        let crate_dir = absolute(&self.crate_dir)?;
        if !crate_dir.join("Cargo.toml").is_file() {
            return Err(Error::NoCrate(crate_dir));
        }
        let compiler = Compiler::find(&self.toolchain, &crate_dir)?;
        let target_dir = self.resolve_target_dir(&crate_dir)?;
        let parts: Vec<Option<&str>> = match &self.parts[..] {
            [] => vec![None],
            parts => parts.iter().map(|part| Some(part.as_str())).collect(),
        };
        let (from, crate_dir, target_dir) = (&compiler, &crate_dir, &target_dir);
        let texts: Result<Vec<String>, Error> = thread::scope(|scope| {
            let build = |features| {
                scope.spawn(move || self.build_part(from, crate_dir, target_dir, features))
            };
            let builds: Vec<_> = parts.into_iter().map(build).collect();
            builds.into_iter().map(|part| part.join().expect("a build does not panic")).collect()
        });
        let ptx = Ptx::new(self.arch.name(), compiler.version, &texts?)?;
        self.copy_to.as_ref().map_or(Ok(()), |path| write_if_changed(path, ptx.as_str()))?;
        Ok(ptx)
    }

    /// Builds the crate with `features` only, or with its default features. Returns the assembly.
    fn build_part(
        &self,
        compiler: &Compiler,
        crate_dir: &Path,
        target_dir: &Path,
        features: Option<&str>,
    ) -> Result<String, Error> {
        let target_dir = &part_dir(target_dir, features);
        fs::create_dir_all(target_dir).map_err(file_error(target_dir))?;
        let assembly = self.assembly(compiler, crate_dir, target_dir);
        let mut cargo = self.cargo(compiler, crate_dir, target_dir, features, &assembly);
        let status = cargo
            .status()
            .map_err(|source| Error::Start { program: compiler.cargo.clone(), source })?;
        if !status.success() {
            return Err(Error::Cargo(status));
        }
        fs::read_to_string(&assembly).map_err(file_error(&assembly))
    }

    /// Returns the absolute path of the directory to build in.
    fn resolve_target_dir(&self, crate_dir: &Path) -> Result<PathBuf, Error> {
        let inherited = || ["OUT_DIR", "CARGO_TARGET_DIR"].into_iter().find_map(env::var_os);
        match &self.target_dir {
            Some(path) => absolute(path),
            None => {
                let parent = inherited().map_or_else(|| crate_dir.join("target"), PathBuf::from);
                absolute(&parent.join("ptx-builder"))
            }
        }
    }

    /// Returns the path of the assembly. It differs for each compiler, crate and set of flags: cargo
    /// skips a build that it considers fresh, so no other build may overwrite its output.
    fn assembly(&self, compiler: &Compiler, crate_dir: &Path, target_dir: &Path) -> PathBuf {
        let Compiler { rustc, cargo: _, version } = compiler;
        let mut hasher = DefaultHasher::new();
        (crate_dir, rustc, version.to_string(), self.rustflags(), PROFILE).hash(&mut hasher);
        target_dir.join(format!("{}-{:016x}.s", self.arch.name(), hasher.finish()))
    }

    /// Returns the cargo command that builds the crate and writes the assembly to `assembly`.
    fn cargo(
        &self,
        compiler: &Compiler,
        crate_dir: &Path,
        target_dir: &Path,
        features: Option<&str>,
        assembly: &Path,
    ) -> Command {
        let mut cargo = clean_command(&compiler.cargo, crate_dir);
        cargo
            .env("RUSTC", &compiler.rustc)
            // The backend's features and `-Zbuild-std` are unstable.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags().join("\x1f"))
            // A static library needs no linker, and cargo finds the file when it decides whether the
            // crate is fresh.
            .args(["rustc", "--release", "--lib", "--crate-type", "staticlib"])
            .args(["--target", "nvptx64-nvidia-cuda", "-Zbuild-std=core"]);
        if let Some(features) = features {
            cargo.args(["--no-default-features", "--features", features]);
        }
        for setting in PROFILE {
            cargo.args(["--config", &format!("profile.release.{setting}")]);
        }
        // The assembly of the whole program after link-time optimization is the PTX.
        let mut emit = std::ffi::OsString::from("--emit=asm=");
        emit.push(assembly);
        cargo.arg("--").arg(emit);
        cargo.stdin(Stdio::null()).stdout(Stdio::null());
        cargo
    }

    /// Returns the compiler flags of every crate on the device, including `core`.
    fn rustflags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("-Ctarget-cpu={}", self.arch.name()),
            // A panic becomes a trap, without a message and a location.
            "-Zunstable-options".to_owned(),
            "-Cpanic=immediate-abort".to_owned(),
            "-Zlocation-detail=none".to_owned(),
        ];
        if let Some((major, minor)) = self.ptx_version {
            flags.push(format!("-Ctarget-feature=+ptx{major}{minor}"));
        }
        flags
    }
}

/// The release profile of the device crate. Overrides the workspace's.
const PROFILE: [&str; 7] = [
    "opt-level=3",
    "lto=\"fat\"",
    "codegen-units=1",
    "debug=false",
    "debug-assertions=false",
    "overflow-checks=false",
    "incremental=false",
];

/// Returns the directory in `target_dir` to build a part in. With a directory each, parts do not wait
/// for each other's lock. The name has no comma, because rustc splits the value of `--emit` at commas.
fn part_dir(target_dir: &Path, features: Option<&str>) -> PathBuf {
    features.map_or(target_dir.to_owned(), |features| target_dir.join(features.replace(',', "-")))
}

/// Makes a path absolute.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path::absolute(path).map_err(file_error(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_crate_is_an_error_that_says_what_to_do() {
        let error = PtxBuilder::new("/nowhere").build().unwrap_err();
        assert!(matches!(&error, Error::NoCrate(path) if path == Path::new("/nowhere")));
        assert!(error.to_string().contains("use the PTX that is part of the package"));
    }

    #[test]
    fn parts_have_directories_without_commas() {
        let directory = |features| part_dir(Path::new("/target"), features);
        assert_eq!(directory(None), Path::new("/target"));
        assert_eq!(directory(Some("bf16")), Path::new("/target/bf16"));
        assert_eq!(directory(Some("bf16,lean")), Path::new("/target/bf16-lean"));
    }

    #[test]
    fn flags_follow_the_settings() {
        let flags = PtxBuilder::new(".").arch(Arch::Sm90a).ptx_version(8, 7).rustflags();
        assert_eq!(flags.first().unwrap(), "-Ctarget-cpu=sm_90a");
        assert_eq!(flags.last().unwrap(), "-Ctarget-feature=+ptx87");
    }
}
