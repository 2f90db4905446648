//! From a device crate to PTX.

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

/// The architecture that the code is generated for. PTX for one runs on all later ones, except that
/// code for an `a` architecture runs there only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// Ampere, and everything later.
    #[default]
    Sm80,
    /// Hopper, and everything later.
    Sm90,
    /// Hopper alone, with `wgmma`.
    Sm90a,
}

impl Arch {
    /// The name as ptxas and rustc know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm90 => "sm_90",
            Self::Sm90a => "sm_90a",
        }
    }
}

/// Builds a device crate.
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
    /// A builder of the device crate in the directory `crate_dir`, for [`Arch::Sm80`].
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

    /// The builder of fused-rans' own kernels in `crate_dir`, as the committed PTX is built.
    #[must_use]
    pub fn fused_rans(crate_dir: impl Into<PathBuf>) -> Self {
        Self::new(crate_dir).arch(Arch::Sm80).ptx_version(7, 4).parts(["bf16", "f16"])
    }

    /// Generates code for `arch`.
    #[must_use]
    pub fn arch(mut self, arch: Arch) -> Self {
        self.arch = arch;
        self
    }

    /// Writes PTX of ISA version `major.minor` instead of the oldest that the architecture allows.
    /// A driver reads the versions up to its own: 7.8 wants CUDA 11.8, 8.0 wants 12.0.
    #[must_use]
    pub fn ptx_version(mut self, major: u32, minor: u32) -> Self {
        self.ptx_version = Some((major, minor));
        self
    }

    /// Takes this compiler.
    #[must_use]
    pub fn toolchain(mut self, toolchain: Toolchain) -> Self {
        self.toolchain = toolchain;
        self
    }

    /// Builds the crate once with each of these features and no other, side by side, and puts the kernels
    /// together, in this order. Without parts it is built once, with its default features.
    #[must_use]
    pub fn parts(mut self, features: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.parts = features.into_iter().map(Into::into).collect();
        self
    }

    /// Builds in this directory. Otherwise it is `ptx-builder` under `OUT_DIR` (in a build script),
    /// `CARGO_TARGET_DIR`, or the crate's `target`, whichever there is first.
    #[must_use]
    pub fn target_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.target_dir = Some(path.into());
        self
    }

    /// Writes the PTX to this file, if it differs from what is there: compressed, if the file's name
    /// ends in `.gz`, else as it is.
    #[must_use]
    pub fn copy_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.copy_to = Some(path.into());
        self
    }

    /// Builds. cargo's messages go to standard error.
    ///
    /// # Errors
    ///
    /// Where there is no such crate or no compiler for it, where it does not compile, or where a
    /// file cannot be written. The error says what to do.
    pub fn build(&self) -> Result<Ptx, Error> {
        let crate_dir = absolute(&self.crate_dir)?;
        if !crate_dir.join("Cargo.toml").is_file() {
            return Err(Error::NoCrate(crate_dir));
        }
        let compiler = Compiler::find(&self.toolchain, &crate_dir)?;
        let target_dir = self.resolve_target_dir(&crate_dir)?;
        let features: Vec<Option<&str>> = match &self.parts[..] {
            [] => vec![None],
            parts => parts.iter().map(|part| Some(part.as_str())).collect(),
        };
        let (from, crate_dir, target_dir) = (&compiler, &crate_dir, &target_dir);
        let texts: Result<Vec<String>, Error> = thread::scope(|scope| {
            let build = |feature| {
                scope.spawn(move || self.build_part(from, crate_dir, target_dir, feature))
            };
            let builds: Vec<_> = features.into_iter().map(build).collect();
            builds.into_iter().map(|part| part.join().expect("it does not panic")).collect()
        });
        let ptx = Ptx::new(self.arch.name(), compiler.version, &texts?)?;
        self.copy_to.as_ref().map_or(Ok(()), |path| write_if_changed(path, ptx.as_str()))?;
        Ok(ptx)
    }

    /// The assembly of the crate, with its default features or with one.
    fn build_part(
        &self,
        compiler: &Compiler,
        crate_dir: &Path,
        target_dir: &Path,
        feature: Option<&str>,
    ) -> Result<String, Error> {
        // Parts do not wait for each other's lock.
        let target_dir = &feature.map_or(target_dir.to_owned(), |feature| target_dir.join(feature));
        fs::create_dir_all(target_dir).map_err(file_error(target_dir))?;
        let assembly = self.assembly(compiler, crate_dir, target_dir);
        let mut cargo = self.cargo(compiler, crate_dir, target_dir, feature, &assembly);
        let status = cargo
            .status()
            .map_err(|source| Error::Start { program: compiler.cargo.clone(), source })?;
        if !status.success() {
            return Err(Error::Cargo(status));
        }
        fs::read_to_string(&assembly).map_err(file_error(&assembly))
    }

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

    /// Where the assembly goes: to a file for each compiler, crate and set of flags, since what cargo
    /// takes for fresh must not have been overwritten by another build in the same directory.
    fn assembly(&self, compiler: &Compiler, crate_dir: &Path, target_dir: &Path) -> PathBuf {
        let Compiler { rustc, cargo: _, version } = compiler;
        let mut hasher = DefaultHasher::new();
        (crate_dir, rustc, version.to_string(), self.rustflags(), PROFILE).hash(&mut hasher);
        target_dir.join(format!("{}-{:016x}.s", self.arch.name(), hasher.finish()))
    }

    fn cargo(
        &self,
        compiler: &Compiler,
        crate_dir: &Path,
        target_dir: &Path,
        feature: Option<&str>,
        assembly: &Path,
    ) -> Command {
        let mut cargo = clean_command(&compiler.cargo, crate_dir);
        cargo
            .env("RUSTC", &compiler.rustc)
            // The backend's features and `-Zbuild-std` are unstable.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags().join("\x1f"))
            // There is nothing to link; a static library needs no linker, and is there afterwards, so
            // that cargo sees when the crate is fresh.
            .args(["rustc", "--release", "--lib", "--crate-type", "staticlib"])
            .args(["--target", "nvptx64-nvidia-cuda", "-Zbuild-std=core"]);
        if let Some(feature) = feature {
            cargo.args(["--no-default-features", "--features", feature]);
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

    /// Flags of every crate on the device, `core` included.
    fn rustflags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("-Ctarget-cpu={}", self.arch.name()),
            // A panic is a trap, and its message and location never exist.
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

/// The release profile of the device, whatever the workspace says.
const PROFILE: [&str; 7] = [
    "opt-level=3",
    "lto=\"fat\"",
    "codegen-units=1",
    "debug=false",
    "debug-assertions=false",
    "overflow-checks=false",
    "incremental=false",
];

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
        assert!(error.to_string().contains("use the PTX that is shipped"));
    }

    #[test]
    fn flags_follow_the_settings() {
        let flags = PtxBuilder::new(".").arch(Arch::Sm90a).ptx_version(8, 7).rustflags();
        assert_eq!(flags.first().unwrap(), "-Ctarget-cpu=sm_90a");
        assert_eq!(flags.last().unwrap(), "-Ctarget-feature=+ptx87");
    }
}
