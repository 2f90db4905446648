//! The sets of fused-rans' own kernels.

use crate::{Arch, PtxBuilder};
use std::path::PathBuf;

/// A set of fused-rans' own kernels. Each set is a PTX of its own; kernels of one purpose have the same
/// name in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelSet {
    /// Kernels for compute capability 8.0 and newer.
    Sm80,
    /// Kernels for compute capability 9.0 only.
    Sm90,
}

impl KernelSet {
    /// Both sets.
    pub const ALL: [Self; 2] = [Self::Sm80, Self::Sm90];

    /// Returns the set's name: `sm80` or `sm90`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm80",
            Self::Sm90 => "sm90",
        }
    }

    /// Returns the set of this name, or `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// Returns the architecture that the set is compiled for.
    #[must_use]
    pub const fn arch(self) -> Arch {
        match self {
            Self::Sm80 => Arch::Sm80,
            Self::Sm90 => Arch::Sm90a,
        }
    }

    /// Returns the file name of the set's PTX as plain text, such as `fused_rans_sm_80.ptx`. The
    /// compressed file's name is the same with `.lzma` appended.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("fused_rans_{}.ptx", self.arch().name())
    }
}

impl PtxBuilder {
    /// Returns a builder of fused-rans' own kernels in `crate_dir`, with the settings of the committed
    /// PTX of `set`.
    #[must_use]
    pub fn fused_rans(crate_dir: impl Into<PathBuf>, set: KernelSet) -> Self {
        let builder = Self::new(crate_dir).arch(set.arch());
        match set {
            KernelSet::Sm80 => builder.ptx_version(7, 4).parts(["bf16", "f16"]),
            KernelSet::Sm90 => builder.ptx_version(8, 0).parts(["bf16,lean", "f16,lean"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_names_and_files() {
        let files = KernelSet::ALL.map(KernelSet::file_name);
        assert_eq!(files, ["fused_rans_sm_80.ptx", "fused_rans_sm_90a.ptx"]);
        for set in KernelSet::ALL {
            assert_eq!(KernelSet::from_name(set.name()), Some(set));
        }
        assert_eq!(KernelSet::from_name("sm_80"), None);
    }
}
