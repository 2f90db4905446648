//! Builds `libcuda`, a driver without a device, and controls it in a process that runs on it.

use fused_rans::gpu::DRIVER_FUNCTIONS;
use libloading::Library;
use std::ffi::{CStr, c_char};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Environment variable of a process that must run on the fake driver.
pub const WANTED: &str = "FUSED_RANS_FAKE_DRIVER";
/// Environment variable of a process whose fake driver has no `cuLaunchKernelEx`.
pub const OLD: &str = "FUSED_RANS_FAKE_OLD_DRIVER";
const SOURCE: &str = include_str!("libcuda/lib.rs");
const STATE: &str = include_str!("libcuda/state.rs");

/// Compiles the fake driver in `directory`. Leaves out the function `missing`, if there is one of that name.
pub fn build(directory: &Path, missing: Option<&str>) {
    let source = directory.join("lib.rs");
    let is_written = |name: &&&str| !SOURCE.contains(&format!("fn {name}("));
    let stubs = DRIVER_FUNCTIONS.iter().filter(is_written);
    let stubs: String = stubs
        .map(|name| {
            format!("#[unsafe(no_mangle)]\npub extern \"C\" fn {name}() -> u32 {{\n    801\n}}\n")
        })
        .collect();
    let text = SOURCE.to_owned() + &stubs;
    let text = match missing {
        // The library looks functions up by name, so it does not find a renamed one.
        Some(name) => text.replace(&format!("fn {name}("), &format!("fn no_{name}(")),
        None => text,
    };
    fs::write(&source, text).unwrap();
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

/// The fake driver of this process.
pub struct Fake {
    begin: extern "C" fn(usize, u32, bool, usize),
    capacity: extern "C" fn(usize),
    capability: extern "C" fn(i32, i32, u32),
    destroy: extern "C" fn(),
    report: extern "C" fn() -> *const c_char,
}

/// Calls and mistakes that the driver has recorded.
#[derive(Debug)]
pub struct Report {
    pub calls: Vec<&'static str>,
    /// Largest number of bytes of device memory in use.
    pub peak: usize,
    /// Sizes of failed allocations.
    pub refused: Vec<usize>,
    /// Mistakes and leaks.
    pub complaints: &'static str,
}

/// An injected fault: a call that fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// Number of the call, from 1; 0 for none.
    pub at: usize,
    pub code: u32,
    /// Whether all later calls fail, too.
    pub sticky: bool,
}

impl Fake {
    /// Returns the fake driver. Returns `None` if this process runs on another driver or on none, which is a failure if
    /// [`WANTED`] is set.
    pub fn of_this_process() -> Option<Self> {
        // SAFETY: this loads the driver that the library loads, whose initializers are harmless.
        let library = unsafe { Library::new("libcuda.so.1") }.ok();
        let fake = library.as_ref().and_then(Self::of_library);
        // The library stays loaded: `fused_rans` does not unload it.
        std::mem::forget(library);
        assert!(fake.is_some() || env::var_os(WANTED).is_none(), "another driver came first");
        fake
    }

    fn of_library(library: &Library) -> Option<Self> {
        // SAFETY: the functions have these types in `libcuda/lib.rs`; the library is never unloaded.
        unsafe {
            Some(Self {
                begin: *library.get(b"fake_begin").ok()?,
                capacity: *library.get(b"fake_capacity").ok()?,
                capability: *library.get(b"fake_capability").ok()?,
                destroy: *library.get(b"fake_destroy").ok()?,
                report: *library.get(b"fake_report").ok()?,
            })
        }
    }

    /// Resets the driver: two new devices with `capacity` bytes of memory together, and a fault.
    pub fn begin(&self, fault: Fault, capacity: usize) {
        (self.begin)(fault.at, fault.code, fault.sticky, capacity);
    }

    /// Sets the size of the devices' memory.
    pub fn set_capacity(&self, bytes: usize) {
        (self.capacity)(bytes);
    }

    /// Sets the devices' compute capability, and the code with which the driver refuses PTX for `sm_90a`; 0 for none.
    /// [`Fake::begin`] resets both to 9.0 and 0.
    pub fn set_capability(&self, (major, minor): (i32, i32), refusal: u32) {
        (self.capability)(major, minor, refusal);
    }

    /// Destroys the contexts while they are in use.
    pub fn destroy_contexts(&self) {
        (self.destroy)();
    }

    pub fn report(&self) -> Report {
        // SAFETY: the function returns a text that is never freed.
        let text = unsafe { CStr::from_ptr((self.report)()) }.to_str().unwrap();
        let mut lines = text.splitn(4, '\n');
        let mut line = || lines.next().expect("a report has four parts");
        let words = |line: &'static str| line.split_whitespace();
        Report {
            calls: words(line()).collect(),
            peak: line().parse().unwrap(),
            refused: words(line()).map(|bytes| bytes.parse().unwrap()).collect(),
            complaints: line(),
        }
    }
}
