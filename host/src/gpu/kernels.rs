//! The kernels of a device, each compiled by the driver when it is first needed.

use super::driver::codes::{Code, INVALID_PTX, INVALID_VALUE, SUCCESS};
use super::driver::types::{
    Handle, LaunchAttribute, LaunchConfig, MAX_DYNAMIC_SHARED_SIZE_BYTES,
    PREFERRED_SHARED_MEMORY_CARVEOUT,
};
use super::driver::{Driver, done};
use super::{CudaStream, Gpu, GpuError, KernelSet};
use crate::{Dtype, WeightsPerSymbol};
use fused_rans_layout::{
    KernelId, LEAN_DECODE_WARPS, LINE, LOOK_AHEAD, LeanMemory, MAX_BUFFER_ROWS, MAX_WORD_ROWS,
    SLABS, TABLE,
};
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Most raw bits of a weight, those of F16.
const MAX_RAW_BITS: u32 = 11;

/// Start of a line that declares a kernel.
const ENTRY: &str = ".visible .entry ";

/// The PTX of each kernel, and the loaded kernels.
pub struct Kernels {
    driver: &'static Driver,
    set: KernelSet,
    /// Text before the first kernel: version, target, shared memory.
    head: String,
    /// Text of each kernel, by name.
    entries: HashMap<String, String>,
    /// Kernels by [`KernelId::index`]: a launch looks here, without a lock.
    loaded: [OnceLock<Kernel>; KernelId::COUNT],
    /// The modules of the loaded kernels. Locked while a kernel is loaded.
    modules: Mutex<Vec<Module>>,
}

/// PTX that the driver has compiled, unloaded when it is dropped.
struct Module {
    driver: &'static Driver,
    handle: Handle,
}

/// A kernel that is loaded. It lives as long as its [`Kernels`].
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    handle: Handle,
}

/// Blocks and threads of a launch.
#[derive(Clone, Copy, Debug)]
pub struct LaunchSize {
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared_memory: u32,
}

/// The use of shared memory that a kernel is loaded with.
#[derive(Clone, Copy, Debug)]
pub struct SharedMemory {
    /// Most bytes of dynamic shared memory of a block; `None` for the default limit.
    pub limit: Option<u32>,
    /// Percentage of a multiprocessor's memory that should be shared memory; the rest is L1 cache.
    pub carveout: i32,
}

impl Kernels {
    /// Splits `ptx`, the text of `set`, into kernels.
    pub fn new(driver: &'static Driver, set: KernelSet, ptx: &str) -> Self {
        let (head, entries) = split(ptx);
        let loaded = [const { OnceLock::new() }; KernelId::COUNT];
        Self { driver, set, head, entries, loaded, modules: Mutex::default() }
    }

    /// Returns which set of kernels this is.
    pub fn set(&self) -> KernelSet {
        self.set
    }

    /// Loads a kernel, which shows whether the driver accepts the PTX at all; the device's context must be current.
    ///
    /// # Errors
    /// [`GpuError::Kernels`] if the driver refuses the PTX.
    pub fn probe(&self) -> Result<(), GpuError> {
        match KernelId::decode(Dtype::Bf16, WeightsPerSymbol::Two) {
            Some(kernel) => self.decode(kernel).map(drop),
            None => Ok(()),
        }
    }

    /// Returns a kernel that decodes, set up for layers with streams of any length.
    fn decode(&self, id: KernelId) -> Result<Kernel, GpuError> {
        let limit = Some(match self.set {
            KernelSet::Sm80 => decode_shared_memory((MAX_WORD_ROWS + LOOK_AHEAD) as u32),
            KernelSet::Sm90 => {
                let (rows, warps) = (MAX_BUFFER_ROWS as u32, LEAN_DECODE_WARPS as u32);
                LeanMemory::new(0, MAX_RAW_BITS, false, warps, rows).bytes
            }
        });
        self.get(id, SharedMemory { limit, carveout: 100 })
    }

    /// Returns a kernel, which is loaded the first time; the device's context must be current.
    pub fn get(&self, id: KernelId, shared_memory: SharedMemory) -> Result<Kernel, GpuError> {
        match self.loaded[id.index()].get() {
            Some(kernel) => Ok(*kernel),
            None => self.load(id, shared_memory),
        }
    }

    #[cold]
    fn load(&self, id: KernelId, shared_memory: SharedMemory) -> Result<Kernel, GpuError> {
        // A panic elsewhere leaves the list as it was before or after a push.
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &self.loaded[id.index()];
        if let Some(kernel) = slot.get() {
            return Ok(*kernel);
        }
        let entry = self.entries.get(id.name()).map_or("", String::as_str);
        let module = Module::load(self.driver, format!("{}{entry}", self.head))?;
        let kernel = module.kernel(id.name())?;
        kernel.set_up(self.driver, shared_memory)?;
        modules.push(module);
        Ok(*slot.get_or_init(|| kernel))
    }

    /// Unloads all kernels. They must not be used after this, and the device's context must be current.
    pub fn unload(&mut self) {
        self.modules.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Returns the text before the first kernel, and the text of each kernel by its name.
fn split(ptx: &str) -> (String, HashMap<String, String>) {
    let (head, rest) = ptx.split_once(ENTRY).unwrap_or((ptx, ""));
    let entries = rest.split(ENTRY).filter_map(|text| {
        let name = text.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        let (body, _) = text.split_once("\n}")?;
        Some((name.to_owned(), format!("{ENTRY}{body}\n}}\n")))
    });
    (head.to_owned(), entries.collect())
}

impl Module {
    fn load(driver: &'static Driver, ptx: String) -> Result<Self, GpuError> {
        let (ptx, mut handle) = (c_text(ptx)?, Handle::NULL);
        // SAFETY: the PTX ends with a zero; the result goes to a variable that lives.
        let code = unsafe { (driver.module_load)(&raw mut handle, ptx.as_ptr().cast()) };
        loaded(code).map(|()| Self { driver, handle })
    }

    fn kernel(&self, name: &str) -> Result<Kernel, GpuError> {
        let (name, mut handle) = (c_text(name)?, Handle::NULL);
        // SAFETY: a valid handle; the name ends with a zero, and the result goes to a variable that lives.
        let code =
            unsafe { (self.driver.module_function)(&raw mut handle, self.handle, name.as_ptr()) };
        loaded(code).map(|()| Kernel { handle })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: a valid handle, not used after this. Without a context there is nothing to unload.
        let _ = unsafe { (self.driver.module_unload)(self.handle) };
    }
}

/// Returns `text` as the driver reads it. A zero in it would hide the rest.
fn c_text(text: impl Into<Vec<u8>>) -> Result<CString, GpuError> {
    CString::new(text).map_err(|_| GpuError::loading(INVALID_PTX))
}

fn loaded(code: Code) -> Result<(), GpuError> {
    if code == SUCCESS { Ok(()) } else { Err(GpuError::loading(code)) }
}

impl Kernel {
    fn set_up(self, driver: &Driver, shared_memory: SharedMemory) -> Result<(), GpuError> {
        let SharedMemory { limit, carveout } = shared_memory;
        let Some(limit) = limit else { return Ok(()) };
        let set = |attribute, value| {
            // SAFETY: a call with a valid function handle; the driver checks the value.
            unsafe { (driver.function_set_attribute)(self.handle, attribute, value) }
        };
        // A hint: where the driver does not accept it, the kernel runs all the same.
        let _ = set(PREFERRED_SHARED_MEMORY_CARVEOUT, carveout);
        match set(MAX_DYNAMIC_SHARED_SIZE_BYTES, limit.cast_signed()) {
            INVALID_VALUE => Err(GpuError::SharedMemory { needed: limit }),
            code => done("setting up a kernel", code),
        }
    }

    /// Queues a launch of a kernel whose only parameter is `arguments`; the context must be current.
    ///
    /// # Safety
    /// `T` is the kernel's argument structure, and what it describes is fit for the kernel.
    pub unsafe fn launch<T>(
        self,
        size: LaunchSize,
        arguments: &T,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        let LaunchSize { blocks, threads, shared_memory } = size;
        let mut parameters = [std::ptr::from_ref(arguments).cast_mut().cast()];
        let (launch, handle) = (cuda_stream.gpu().driver().launch, cuda_stream.handle());
        let (parameters, none) = (parameters.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: a valid handle; the driver copies the arguments before it returns; the rest is the caller's promise.
        let code = unsafe {
            launch(
                self.handle,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                shared_memory,
                handle,
                parameters,
                none,
            )
        };
        done("launching a kernel", code)
    }
}

impl Kernel {
    /// Queues a launch like [`Kernel::launch`]. Unless `overlap` is false, it may start when the launch before it on the CUDA
    /// stream ends or lets it: the kernel waits where it must. Drivers that cannot do that wait for the whole launch.
    ///
    /// # Safety
    /// As for [`Kernel::launch`]; if `overlap`, the kernel waits before it uses memory that launches before it use.
    pub unsafe fn launch_overlapping<T>(
        self,
        size: LaunchSize,
        arguments: &T,
        cuda_stream: &CudaStream,
        overlap: bool,
    ) -> Result<(), GpuError> {
        let Some(launch) = cuda_stream.gpu().driver().launch_ex.filter(|_| overlap) else {
            // SAFETY: the caller's promise.
            return unsafe { self.launch(size, arguments, cuda_stream) };
        };
        let LaunchSize { blocks, threads, shared_memory } = size;
        let mut attribute = LaunchAttribute::overlap();
        let config = LaunchConfig {
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            shared_memory,
            cuda_stream: cuda_stream.handle(),
            attributes: &raw mut attribute,
            attribute_count: 1,
        };
        let mut parameters = [std::ptr::from_ref(arguments).cast_mut().cast()];
        let (parameters, none) = (parameters.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: a valid handle; the driver copies configuration and arguments before it returns; the rest is the
        // caller's promise.
        let code = unsafe { launch(&raw const config, self.handle, parameters, none) };
        done("launching a kernel", code)
    }
}

impl Gpu {
    /// Returns a kernel that decodes, set up for layers with streams of any length.
    pub(super) fn decode_kernel(&self, id: KernelId) -> Result<Kernel, GpuError> {
        self.kernels().decode(id)
    }
}

/// Returns the bytes of shared memory of a decode kernel's block: the table, `buffer_rows` rows for every slab, and
/// behind the last slab's as many rows as a stream can have, whatever its bits are.
pub fn decode_shared_memory(buffer_rows: u32) -> u32 {
    let rows = (SLABS - 1) * buffer_rows as usize + MAX_WORD_ROWS + LOOK_AHEAD;
    (4 * TABLE + rows * LINE) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_in_ptx_are_an_error() {
        let error = c_text("// \0").expect_err("not PTX");
        assert!(matches!(error, GpuError::Kernels { code: 218 }), "{error}");
    }

    #[test]
    fn ptx_is_split_into_kernels() {
        let ptx = "// head\n.version 7.0\n\t// .globl a\n.visible .entry a(\n\t.param .u64 a_0\n)\n{\n\tret;\n\n}\n\t// .globl b_2\n.visible .entry b_2()\n{\n\tret;\n}\n";
        let (head, entries) = split(ptx);
        assert!(head.ends_with(".version 7.0\n\t// .globl a\n"));
        assert_eq!(entries["b_2"], ".visible .entry b_2()\n{\n\tret;\n}\n");
        assert!(entries["a"].ends_with("ret;\n\n}\n"));
    }
}
