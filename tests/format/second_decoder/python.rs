//! Runs decode.py on blobs and files and compares its output.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

/// Output of decode.py.
#[derive(Clone, Copy, PartialEq)]
pub enum Output {
    /// Weights of a blob, original of a file.
    Content,
    /// Dequantized weights of a blob, in F32.
    Numbers,
}

/// Blobs and files for one run of decode.py, and the expected outputs.
pub struct Cases {
    folder: TempDir,
    output: Output,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    /// Expected output; `None` if the input must be refused.
    expected: Option<Vec<u8>>,
}

impl Cases {
    /// Makes an empty set of cases.
    pub fn new(output: Output) -> Self {
        Self { folder: TempDir::new().unwrap(), output, cases: Vec::new() }
    }

    /// Adds the blob or file `bytes`.
    pub fn add(&mut self, name: impl Into<String>, bytes: &[u8], expected: Option<Vec<u8>>) {
        fs::write(self.folder.path().join(self.cases.len().to_string()), bytes).unwrap();
        self.cases.push(Case { name: name.into(), expected });
    }

    /// Runs decode.py once and compares all outputs with the expected ones.
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

    /// Runs decode.py; returns its exit status and its lines on stderr.
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
                 or set FUSED_RANS_NO_PYTHON to skip this test"
            )
        });
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Describes the difference between an output and the expected one; `None` if they are equal. Of numbers, all NaNs are
    /// equal.
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
