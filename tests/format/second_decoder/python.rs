//! Runs decode.py.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

/// What decode.py is to write.
#[derive(Clone, Copy, PartialEq)]
pub enum Output {
    /// The weights of blobs, the originals of files.
    Content,
    /// The numbers that blobs mean, as F32.
    Numbers,
}

/// Blobs and files for one run of decode.py, and what it must make of them.
pub struct Cases {
    folder: TempDir,
    output: Output,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    /// `None` if it must be refused.
    expected: Option<Vec<u8>>,
}

impl Cases {
    /// No cases yet.
    pub fn new(output: Output) -> Self {
        Self { folder: TempDir::new().unwrap(), output, cases: Vec::new() }
    }

    /// Adds the blob or file `bytes`.
    pub fn add(&mut self, name: impl Into<String>, bytes: &[u8], expected: Option<Vec<u8>>) {
        fs::write(self.folder.path().join(self.cases.len().to_string()), bytes).unwrap();
        self.cases.push(Case { name: name.into(), expected });
    }

    /// Runs decode.py, and holds what it writes against what is expected.
    pub fn check(self) {
        if std::env::var_os("FUSED_RANS_NO_PYTHON").is_some() {
            println!("skipped: FUSED_RANS_NO_PYTHON is set");
            return;
        }
        let (status, complaints) = self.run();
        let mut complaints = complaints.lines();
        for (number, Case { name, expected }) in self.cases.iter().enumerate() {
            let found = fs::read(self.folder.path().join(format!("{number}.out"))).ok();
            if expected.is_none() {
                let complaint = complaints.next().unwrap_or_default();
                let prefix = format!("{number}: ");
                assert!(complaint.starts_with(&prefix), "{name}: it is not refused: {complaint}");
            }
            let differ = self.difference(found, expected.as_deref());
            assert_eq!(differ, None, "{name}: {:?}", complaints.next());
        }
        assert_eq!(complaints.next(), None, "one line for each that is not valid");
        let all_valid = self.cases.iter().all(|case| case.expected.is_some());
        assert_eq!(status, Some(i32::from(!all_valid)));
    }

    /// The exit status, and the lines on stderr.
    fn run(&self) -> (Option<i32>, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format/second_decoder/decode.py");
        let mut python = Command::new("python3");
        python.current_dir(self.folder.path()).arg(script);
        python.args((self.output == Output::Numbers).then_some("--numbers"));
        for number in 0..self.cases.len() {
            python.args([number.to_string(), format!("{number}.out")]);
        }
        let output = python.output().unwrap_or_else(|error| {
            panic!(
                "python3 cannot be started ({error}): install Python 3.9 or later, \
                 or set FUSED_RANS_NO_PYTHON to do without this test"
            )
        });
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// How what was found differs from what was expected; of numbers, any NaN is like any other.
    fn difference(&self, found: Option<Vec<u8>>, expected: Option<&[u8]>) -> Option<String> {
        let (found, expected) = match (found, expected) {
            (Some(found), Some(expected)) => (found, expected),
            (None, None) => return None,
            (found, _) => return Some(format!("valid: {}", found.is_some())),
        };
        if found.len() != expected.len() {
            return Some(format!("{} bytes instead of {}", found.len(), expected.len()));
        }
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
        let same = |found: &[u8], expected: &[u8]| {
            let (a, b) = (found, expected);
            a == b || self.output == Output::Numbers && number(a).is_nan() && number(b).is_nan()
        };
        let width = if self.output == Output::Numbers { 4 } else { 1 };
        let pairs = found.chunks(width).zip(expected.chunks(width)).enumerate();
        let mut differ = pairs.filter(|(_, (found, expected))| !same(found, expected));
        differ.next().map(|(at, (found, expected))| {
            format!("{found:02x?} instead of {expected:02x?} at {at}, and {} more", differ.count())
        })
    }
}
