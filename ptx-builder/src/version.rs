//! Which compiler.

use std::fmt;

/// The part of `rustc -Vv` that the generated code depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The first line. It tells apart builds of one release, and enters the names of symbols.
    pub rustc: String,
    /// Commit of the compiler, or `unknown`.
    pub commit_hash: String,
    /// Release, such as `1.96.0`.
    pub release: String,
    /// Version of LLVM.
    pub llvm: String,
}

impl Version {
    /// Reads the output of `rustc -Vv`; `None` if it is not that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::to_owned)
        };
        Some(Self {
            rustc: text.lines().find(|line| line.starts_with("rustc "))?.to_owned(),
            commit_hash: field("commit-hash")?,
            release: field("release")?,
            llvm: field("LLVM version")?,
        })
    }

    /// (major, minor) of the release.
    #[must_use]
    pub fn major_minor(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }
}

/// As `rustc -Vv` writes it, and [`Version::parse`] reads it.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.rustc)?;
        writeln!(f, "commit-hash: {}", self.commit_hash)?;
        writeln!(f, "release: {}", self.release)?;
        write!(f, "LLVM version: {}", self.llvm)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const DEBIAN: &str = "\
rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)
binary: rustc
commit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96
commit-date: 2026-05-25
host: x86_64-unknown-linux-gnu
release: 1.96.0
LLVM version: 22.1.8
";

    #[test]
    fn reads_what_rustc_prints() {
        let version = Version::parse(DEBIAN).unwrap();
        assert_eq!(version.rustc, DEBIAN.lines().next().unwrap());
        assert_eq!(version.commit_hash, "ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96");
        assert_eq!(version.release, "1.96.0");
        assert_eq!(version.llvm, "22.1.8");
        assert_eq!(version.major_minor(), Some((1, 96)));
    }

    #[test]
    fn reads_a_nightly() {
        let text = DEBIAN.replace("1.96.0", "1.99.0-nightly");
        assert_eq!(Version::parse(&text).unwrap().major_minor(), Some((1, 99)));
    }

    #[test]
    fn reads_what_it_writes() {
        let version = Version::parse(DEBIAN).unwrap();
        assert_eq!(Version::parse(&version.to_string()), Some(version));
    }

    #[test]
    fn refuses_anything_else() {
        assert_eq!(Version::parse(""), None);
        assert_eq!(Version::parse("cargo 1.96.0"), None);
        assert_eq!(Version::parse("rustc 1.96.0\nrelease: 1.96.0"), None);
    }
}
