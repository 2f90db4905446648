//! The kernels of a device, compiled when they are first asked for.

use super::GpuError;
use super::driver::{self, INVALID_VALUE, SUCCESS};
use cust::sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// How a line starts that declares a kernel.
const ENTRY: &str = ".visible .entry ";

/// The PTX, kernel by kernel, and what the driver has made of it.
#[derive(Debug)]
pub struct Kernels {
    /// What stands before the first kernel: version, target, shared memory.
    head: String,
    /// Text of each kernel.
    entries: HashMap<String, String>,
    loaded: Mutex<HashMap<String, (Module, Kernel)>>,
}

/// PTX that the driver has compiled. `cust` has the same, but not the codes of drivers that are older than the PTX.
#[derive(Debug)]
struct Module(sys::CUmodule);

// SAFETY: a handle that the driver lets any thread use.
unsafe impl Send for Module {}

/// A kernel that is loaded; it lives as long as its [`Kernels`].
#[derive(Clone, Copy, Debug)]
pub struct Kernel(sys::CUfunction);

// SAFETY: a handle that the driver lets any thread use.
unsafe impl Send for Kernel {}
// SAFETY: likewise.
unsafe impl Sync for Kernel {}

impl Kernels {
    /// Takes `ptx` apart.
    pub fn new(ptx: &str) -> Self {
        let (head, rest) = ptx.split_once(ENTRY).unwrap_or((ptx, ""));
        let entries = rest.split(ENTRY).filter_map(|text| {
            let name = text.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
            let (body, _) = text.split_once("\n}")?;
            Some((name.to_owned(), format!("{ENTRY}{body}\n}}\n")))
        });
        Self { head: head.to_owned(), entries: entries.collect(), loaded: Mutex::default() }
    }

    /// The kernel `name`, which is compiled, and set up by `prepare`, the first time; the device's
    /// context must be current.
    pub fn get(
        &self,
        name: &str,
        prepare: impl FnOnce(Kernel) -> Result<(), GpuError>,
    ) -> Result<Kernel, GpuError> {
        // A panic elsewhere leaves the map as it was before or after an insertion.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, kernel)) = loaded.get(name) {
            return Ok(*kernel);
        }
        let entry = self.entries.get(name).map_or("", String::as_str);
        let module = Module::load(format!("{}{entry}", self.head))?;
        let kernel = module.kernel(name)?;
        prepare(kernel)?;
        loaded.insert(name.to_owned(), (module, kernel));
        Ok(kernel)
    }
}

impl Module {
    fn load(ptx: String) -> Result<Self, GpuError> {
        let ptx = text(ptx)?;
        let mut module = ptr::null_mut();
        // SAFETY: the PTX ends with a zero; the result goes to a handle that lives.
        let result = unsafe { driver::cuModuleLoadData(&raw mut module, ptx.as_ptr().cast()) };
        loaded(result).map(|()| Self(module))
    }

    fn kernel(&self, name: &str) -> Result<Kernel, GpuError> {
        let name = text(name)?;
        let mut kernel = ptr::null_mut();
        // SAFETY: a valid handle; the name ends with a zero, and the result goes to a handle that lives.
        let result = unsafe { driver::cuModuleGetFunction(&raw mut kernel, self.0, name.as_ptr()) };
        loaded(result).map(|()| Kernel(kernel))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: a valid handle, which nothing uses after this. Without a context nothing is left to unload.
        let _ = unsafe { driver::cuModuleUnload(self.0) };
    }
}

/// As the driver takes it: nothing behind a zero would be seen.
fn text(text: impl Into<Vec<u8>>) -> Result<CString, GpuError> {
    let invalid = sys::CUresult::CUDA_ERROR_INVALID_PTX;
    CString::new(text).map_err(|_| GpuError::loading(invalid as u32))
}

fn loaded(code: u32) -> Result<(), GpuError> {
    if code == SUCCESS { Ok(()) } else { Err(GpuError::loading(code)) }
}

impl Kernel {
    /// Lets blocks have up to `bytes` of dynamic shared memory, and as many of them as fit on a
    /// multiprocessor.
    pub fn allow_shared_memory(self, bytes: u32, carveout: i32) -> Result<(), GpuError> {
        use sys::CUfunction_attribute_enum as Attribute;
        let set = |attribute, value| {
            // SAFETY: a call with a valid function handle; the driver checks the value.
            unsafe { driver::cuFuncSetAttribute(self.0, attribute, value) }
        };
        // A hint: where the driver does not take it, the kernel runs all the same.
        let _ = set(Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, carveout);
        let size = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        match set(size, bytes.cast_signed()) {
            SUCCESS => Ok(()),
            INVALID_VALUE => Err(GpuError::SharedMemory { needed: bytes }),
            code => Err(GpuError::Setup { code }),
        }
    }

    /// Queues a launch.
    ///
    /// # Safety
    /// `parameters` point to values of the types that the kernel has, and those are fit for it.
    pub unsafe fn launch(
        self,
        blocks: u32,
        threads: u32,
        shared_memory: u32,
        cuda_stream: sys::CUstream,
        parameters: &mut [*mut std::ffi::c_void],
    ) -> Result<(), GpuError> {
        // SAFETY: a valid handle; the rest is the caller's promise.
        let result = unsafe {
            driver::cuLaunchKernel(
                self.0,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                shared_memory,
                cuda_stream,
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        match result {
            SUCCESS => Ok(()),
            code => Err(GpuError::Launch { code }),
        }
    }
}

/// Pointers to parameters of a kernel, in order.
macro_rules! parameters {
    ($($parameter:expr),* $(,)?) => {
        [$((&raw const $parameter).cast_mut().cast::<std::ffi::c_void>()),*]
    };
}
pub(super) use parameters;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_in_ptx_are_an_error() {
        let error = Module::load("// \0".into()).expect_err("no PTX");
        assert!(matches!(error, GpuError::Kernels { code: 218 }), "{error}");
    }

    #[test]
    fn ptx_comes_apart_by_kernels() {
        let ptx = "// head\n.version 7.0\n\t// .globl a\n.visible .entry a(\n\t.param .u64 a_0\n)\n{\n\tret;\n\n}\n\t// .globl b_2\n.visible .entry b_2()\n{\n\tret;\n}\n";
        let kernels = Kernels::new(ptx);
        assert!(kernels.head.ends_with(".version 7.0\n\t// .globl a\n"));
        assert_eq!(kernels.entries["b_2"], ".visible .entry b_2()\n{\n\tret;\n}\n");
        assert!(kernels.entries["a"].ends_with("ret;\n\n}\n"));
    }
}
