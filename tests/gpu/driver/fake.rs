//! `libcuda`, the driver with no device behind it: how it is built, and how a process that runs on it steers it.

use libloading::os::unix::Library;
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Set for the process that has to run on it.
pub const WANTED: &str = "FUSED_RANS_FAKE_DRIVER";
const SOURCE: &str = include_str!("libcuda/lib.rs");
const STATE: &str = include_str!("libcuda/state.rs");

/// Compiles it in `directory`, for this program.
pub fn build(directory: &Path) {
    let source = directory.join("lib.rs");
    let rest =
        linked_functions().into_iter().filter(|name| !SOURCE.contains(&format!("fn {name}(")));
    let rest: String = rest
        .map(|name| {
            format!("#[unsafe(no_mangle)]\npub extern \"C\" fn {name}() -> u32 {{\n    801\n}}\n")
        })
        .collect();
    fs::write(&source, SOURCE.to_owned() + &rest).unwrap();
    fs::write(directory.join("state.rs"), STATE).unwrap();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--edition=2024",
        "--crate-name=cuda",
        "--crate-type=cdylib",
        "-O",
        "-Clink-arg=-Wl,-soname,libcuda.so.1",
    ]);
    rustc.arg(&source).arg("-o").arg(directory.join("libcuda.so.1"));
    assert!(rustc.status().expect("rustc starts").success(), "the driver compiles");
}

/// Names in this program that are like the driver's functions: the loader wants all of them, though few are called.
fn linked_functions() -> BTreeSet<String> {
    let program = fs::read(env::current_exe().unwrap()).unwrap();
    let texts = program.split(|&byte| byte == 0).filter_map(|text| str::from_utf8(text).ok());
    let is_like = |text: &&str| {
        let name = text.strip_prefix("cu").unwrap_or("");
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    texts.filter(is_like).map(str::to_owned).collect()
}

/// The driver that this process runs on.
pub struct Fake {
    begin: extern "C" fn(usize, u32, bool, usize),
    capacity: extern "C" fn(usize),
    destroy: extern "C" fn(),
    report: extern "C" fn() -> *const c_char,
}

/// What the driver has seen.
#[derive(Debug)]
pub struct Report {
    pub calls: Vec<&'static str>,
    /// The most device memory that was in use.
    pub peak: usize,
    /// Bytes of what found no room.
    pub refused: Vec<usize>,
    pub kernels: Vec<&'static str>,
    /// What was done wrong and what is left over.
    pub complaints: &'static str,
}

/// A call that fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// Its number, from 1.
    pub at: usize,
    pub code: u32,
    /// Whether all later calls fail, too.
    pub sticky: bool,
}

impl Fake {
    /// `None` where this process runs on another driver, as it may unless this one is [`WANTED`].
    pub fn of_this_process() -> Option<Self> {
        let fake = Self::of_library(&Library::this());
        assert!(fake.is_some() || env::var_os(WANTED).is_none(), "another driver came first");
        fake
    }

    fn of_library(program: &Library) -> Option<Self> {
        // SAFETY: the types are those of `libcuda/lib.rs`; the library stays as long as the process.
        unsafe {
            Some(Self {
                begin: *program.get(b"fake_begin").ok()?,
                capacity: *program.get(b"fake_capacity").ok()?,
                destroy: *program.get(b"fake_destroy").ok()?,
                report: *program.get(b"fake_report").ok()?,
            })
        }
    }

    /// Two new devices with `capacity` bytes of memory in all.
    pub fn begin(&self, fault: Fault, capacity: usize) {
        (self.begin)(fault.at, fault.code, fault.sticky, capacity);
    }

    /// Changes the devices' memory.
    pub fn set_capacity(&self, bytes: usize) {
        (self.capacity)(bytes);
    }

    /// Destroys the contexts under everybody who uses them.
    pub fn destroy_contexts(&self) {
        (self.destroy)();
    }

    pub fn report(&self) -> Report {
        // SAFETY: a text that stays.
        let text = unsafe { CStr::from_ptr((self.report)()) }.to_str().unwrap();
        let mut lines = text.splitn(5, '\n');
        let mut line = || lines.next().expect("a report has five parts");
        let words = |line: &'static str| line.split_whitespace();
        Report {
            calls: words(line()).collect(),
            peak: line().parse().unwrap(),
            refused: words(line()).map(|bytes| bytes.parse().unwrap()).collect(),
            kernels: words(line()).collect(),
            complaints: line(),
        }
    }
}
