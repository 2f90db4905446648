//! Situations from reports of people who compress, convert, shard and quantize models: what the program makes of the files
//! that they have, and what it says.

mod folders;
mod messages;
mod names;
mod quantized_before;

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

use fused_rans::Float;
use safetensors::SafeTensors;
use support::craft::{Tensor, bf16, plain, tensor};
use support::sources::{normal, store};

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

    /// Returns the bytes of all files of the folder `name`, by their paths in it.
    pub fn tree(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.path(name).join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{folder}{}", entry.file_name().to_str().unwrap());
                match entry.path().is_dir() {
                    true => folders.push(format!("{name}/")),
                    false => _ = files.insert(name, fs::read(entry.path()).unwrap()),
                }
            }
        }
        files
    }
}

/// Returns whether a line has all these parts.
pub fn says(lines: &[String], parts: &[&str]) -> bool {
    lines.iter().any(|line| parts.iter().all(|part| line.contains(part)))
}

/// Returns a matrix of normally distributed numbers.
pub fn numbers(name: &str, dtype: &'static str, shape: &[usize]) -> Tensor {
    let float = Float::ALL.into_iter().find(|float| float.name() == dtype).unwrap();
    let count = shape.iter().product::<usize>();
    let values = normal(1, count, 0.02, name.len() as u64).values;
    tensor(name, dtype, shape, values.into_iter().flat_map(|x| store(float, x)).collect())
}

/// Returns a tensor of this many bytes for each element, whatever they mean.
pub fn codes(name: &str, dtype: &'static str, shape: &[usize], bytes: usize) -> Tensor {
    let count = shape.iter().product::<usize>() * bytes;
    let mut data = bf16(count.div_ceil(2));
    data.truncate(count);
    tensor(name, dtype, shape, data)
}
