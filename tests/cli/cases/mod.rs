//! Situations from reports of people who compress, convert, shard and quantize models: what the program makes of the files
//! that they have, and what it says.

mod folders;
mod messages;
mod names;
mod quantized_before;

use std::fs;
use std::process::Output;

use safetensors::SafeTensors;
use support::craft::{Tensor, bf16, plain, tensor};
pub use support::sources::numbers_of as numbers;

use crate::place::Place;

impl Place {
    /// Writes a safetensors file.
    pub fn put(&self, name: &str, tensors: &[Tensor]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, plain(tensors, "", 0)).unwrap();
    }

    /// Runs the program and checks that it succeeds; returns the lines on standard error.
    pub fn lines(&self, args: &[&str]) -> Vec<String> {
        let Output { status, stdout, stderr } = self.run(args);
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(status.success() && stdout.is_empty(), "{args:?}: {status} {stderr}");
        stderr.lines().map(ToOwned::to_owned).collect()
    }

    /// Runs the program and checks that it fails with one line, and writes nothing; returns the line.
    pub fn error(&self, args: &[&str]) -> String {
        let before = self.names();
        let Output { status, stdout, stderr } = self.run(args);
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(!status.success() && stdout.is_empty(), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert_eq!(self.names(), before, "{args:?}");
        stderr.trim_end().to_owned()
    }

    /// Compresses `in` with a format, restores it, and returns the lines that were said, with the names of the tensors
    /// whose bytes have changed.
    pub fn quantized(&self, args: &[&str]) -> (Vec<String>, Vec<String>) {
        let lines = self.lines(&[&["compress", "in", "-o", "out"], args].concat());
        self.ok(&["decompress", "out", "-o", "back"]);
        let [before, after] = ["in", "back"].map(|name| fs::read(self.path(name)).unwrap());
        let [before, after] =
            [&before, &after].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        let mut changed: Vec<String> = before
            .iter()
            .filter(|(name, view)| after.tensor(name).unwrap().data() != view.data())
            .map(|(name, _)| name.to_owned())
            .collect();
        changed.sort();
        (lines, changed)
    }
}

/// Returns whether a line has all these parts.
pub fn says(lines: &[String], parts: &[&str]) -> bool {
    lines.iter().any(|line| parts.iter().all(|part| line.contains(part)))
}

/// Returns a tensor of this many bytes for each element, whatever they mean.
pub fn codes(name: &str, dtype: &'static str, shape: &[usize], bytes: usize) -> Tensor {
    let count = shape.iter().product::<usize>() * bytes;
    let mut data = bf16(count.div_ceil(2));
    data.truncate(count);
    tensor(name, dtype, shape, data)
}
