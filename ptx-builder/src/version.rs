//! The version of a compiler.

use std::fmt;

/// A compiler's version, from the output of `rustc -Vv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The first line. It differs between builds of one release, and symbols' names depend on it.
    pub rustc: String,
    /// Hash of the compiler's commit, or `unknown`.
    pub commit_hash: String,
    /// The release, such as `1.96.0`.
    pub release: String,
    /// The version of LLVM.
    pub llvm: String,
    /// The whole output, without the last line's end.
    text: String,
}

impl Version {
    /// Reads the output of `rustc -Vv`. Returns `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::to_owned)
        };
        Some(Self {
            rustc: text.lines().next().filter(|line| line.starts_with("rustc "))?.to_owned(),
            commit_hash: field("commit-hash")?,
            release: field("release")?,
            llvm: field("LLVM version")?,
            text: text.to_owned(),
        })
    }

    /// Returns whether both compilers generate the same code from the same sources. Ignores the host.
    #[must_use]
    pub fn generates_like(&self, other: &Self) -> bool {
        let relevant = |version: &Self| {
            let Self { rustc, commit_hash, release, llvm, text: _ } = version.clone();
            [rustc, commit_hash, release, llvm]
        };
        relevant(self) == relevant(other)
    }

    /// Returns the major and minor number of the release.
    #[must_use]
    pub fn major_minor(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }
}

/// Writes the output of `rustc -Vv`, which [`Version::parse`] reads.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
        assert_eq!(version.to_string(), DEBIAN.trim_end());
        assert_eq!(Version::parse(&version.to_string()), Some(version));
    }

    #[test]
    fn the_host_does_not_change_the_generated_code() {
        let like = |from, to| {
            let (debian, other) =
                (Version::parse(DEBIAN), Version::parse(&DEBIAN.replace(from, to)));
            assert_ne!(debian, other);
            debian.unwrap().generates_like(&other.unwrap())
        };
        assert!(like("x86_64", "aarch64"));
        assert!(!like(" (built from a source tarball)", ""));
        assert!(!like("commit-hash: a", "commit-hash: b"));
        assert!(!like("release: 1.96.0", "release: 1.96.1"));
        assert!(!like("22.1.8", "22.1.7"));
    }

    #[test]
    fn refuses_other_texts() {
        assert_eq!(Version::parse(""), None);
        assert_eq!(Version::parse("cargo 1.96.0"), None);
        assert_eq!(Version::parse("rustc 1.96.0\nrelease: 1.96.0"), None);
    }
}
