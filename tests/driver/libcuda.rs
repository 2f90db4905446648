//! A CUDA driver with no device behind it, for tests: `libcuda.so.1` as far as this project calls it. Device memory is host
//! memory, kernels do nothing, and every handle is accounted for: what is used that does not live, what is written outside of
//! its buffer and what is left over is told by [`fake_report`]. [`fake_begin`] says which call is to fail, and how.
#![allow(non_snake_case, reason = "the driver's names")]
#![allow(
    clippy::missing_safety_doc,
    clippy::undocumented_unsafe_blocks,
    reason = "as the driver's"
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const INVALID_CONTEXT: u32 = 201;
const INVALID_PTX: u32 = 218;
const INVALID_HANDLE: u32 = 400;
const NOT_FOUND: u32 = 500;

/// Device memory that things take beside buffers.
const CONTEXT_BYTES: usize = 1 << 16;
const MODULE_BYTES: usize = 1 << 14;
const STREAM_BYTES: usize = 1 << 12;

/// Calls that give something back. They do so even if they fail: it is enough that it was tried.
const ENDS: [&str; 4] =
    ["cuMemFree_v2", "cuStreamDestroy_v2", "cuModuleUnload", "cuDevicePrimaryCtxRelease_v2"];

static STATE: Mutex<State> = Mutex::new(State::new());

thread_local! {
    /// The current context.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

struct State {
    calls: Vec<&'static str>,
    /// Number of the call that fails, from 1, its code, and whether all later ones do, too.
    fault: (usize, u32, bool),
    /// Whether a call has failed that was to.
    faulty: bool,
    capacity: usize,
    /// Most bytes that were in use.
    peak: usize,
    /// Bytes of what found no room.
    refused: Vec<String>,
    /// The last handle or address; none is given twice.
    last: u64,
    /// The primary context while it lives, and how often it is retained.
    context: (u64, usize),
    buffers: BTreeMap<u64, Vec<u8>>,
    streams: Vec<u64>,
    /// Each with its PTX.
    modules: BTreeMap<u64, String>,
    /// Each with its module and its parameters: their bytes, and whether they are addresses.
    kernels: BTreeMap<u64, (u64, Vec<(usize, bool)>)>,
    /// Names of kernels.
    loaded: Vec<String>,
    /// What was done wrong.
    complaints: Vec<String>,
}

impl State {
    const fn new() -> Self {
        Self {
            calls: Vec::new(),
            fault: (0, 0, false),
            faulty: false,
            capacity: usize::MAX,
            peak: 0,
            refused: Vec::new(),
            last: 1 << 40,
            context: (0, 0),
            buffers: BTreeMap::new(),
            streams: Vec::new(),
            modules: BTreeMap::new(),
            kernels: BTreeMap::new(),
            loaded: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// A handle, or an address with `bytes` behind it that nothing else has.
    fn handle(&mut self, bytes: usize) -> u64 {
        let handle = self.last.next_multiple_of(256);
        self.last = handle + bytes as u64 + 256;
        handle
    }

    fn complain(&mut self, what: &str) {
        let call = self.calls.last().copied().unwrap_or("");
        self.complaints.push(format!("{call} (call {}): {what}", self.calls.len()));
    }

    /// The code that the call now begun is to fail with.
    fn injected(&mut self) -> Option<u32> {
        let (at, code, sticky) = self.fault;
        let now = self.calls.len();
        let fails = at != 0 && (now == at || sticky && now > at);
        self.faulty |= fails;
        fails.then_some(code)
    }

    fn used(&self) -> usize {
        let buffers: usize = self.buffers.values().map(Vec::len).sum();
        let context = if self.context.1 > 0 { CONTEXT_BYTES } else { 0 };
        let streams = STREAM_BYTES * self.streams.len();
        buffers + context + streams + MODULE_BYTES * self.modules.len()
    }

    /// Makes sure that `bytes` more fit.
    fn reserve(&mut self, bytes: usize) -> Result<(), u32> {
        if bytes <= self.capacity.saturating_sub(self.used()) {
            return Ok(());
        }
        self.refused.push(bytes.to_string());
        Err(OUT_OF_MEMORY)
    }

    /// Makes sure that the current context lives.
    fn entered(&mut self) -> Result<(), u32> {
        if self.context.1 > 0 && CURRENT.get() == self.context.0 {
            return Ok(());
        }
        // To enter it may have been what failed.
        if !self.faulty {
            self.complain("no context");
        }
        Err(INVALID_CONTEXT)
    }

    /// `bytes` at a device address.
    fn memory(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], u32> {
        self.entered()?;
        let before = self.buffers.range(..=address).next_back();
        let (start, length) = before.map_or((0, 0), |(start, buffer)| (*start, buffer.len()));
        let at = (address - start) as usize;
        self.check(at + bytes <= length, "outside of all buffers that live")?;
        let buffer = self.buffers.get_mut(&start).ok_or(INVALID_VALUE)?;
        Ok(&mut buffer[at..at + bytes])
    }

    /// Complains unless `lives`.
    fn check(&mut self, lives: bool, what: &str) -> Result<(), u32> {
        if lives {
            return Ok(());
        }
        self.complain(what);
        Err(INVALID_HANDLE)
    }

    fn check_stream(&mut self, stream: u64) -> Result<(), u32> {
        self.entered()?;
        self.check(stream == 0 || self.streams.contains(&stream), "no such CUDA stream")
    }

    /// What has not been given back.
    fn left(&self) -> String {
        let Self { context, buffers, streams, modules, .. } = self;
        let things = [context.1, buffers.len(), streams.len(), modules.len()];
        let names = ["contexts", "buffers", "CUDA streams", "modules"];
        let left = things.iter().zip(names).filter(|(count, _)| **count > 0);
        left.map(|(count, name)| format!("{count} {name} left\n")).collect()
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every call of the driver goes through here.
fn call(name: &'static str, work: impl FnOnce(&mut State) -> Result<(), u32>) -> u32 {
    let mut state = state();
    state.calls.push(name);
    let injected = state.injected();
    if injected.is_some() && !ENDS.contains(&name) {
        return injected.unwrap_or(0);
    }
    let result = work(&mut state);
    state.peak = state.peak.max(state.used());
    injected.or(result.err()).unwrap_or(0)
}

/// Begins anew: call number `at` (0 for none) fails with `code`, and, if `sticky`, so do those after it; the device has
/// `capacity` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn fake_begin(at: usize, code: u32, sticky: bool, capacity: usize) {
    let mut state = state();
    let last = state.last;
    *state = State { last, fault: (at, code, sticky), capacity, ..State::new() };
}

/// From now on the device has `capacity` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn fake_capacity(capacity: usize) {
    state().capacity = capacity;
}

/// Lines: the calls since the beginning; the most bytes in use; what found no room, in bytes; kernels that were loaded; and
/// then what was done wrong and what is left over. The text stays.
#[unsafe(no_mangle)]
pub extern "C" fn fake_report() -> *const c_char {
    let state = state();
    let [calls, kernels, refused] =
        [state.calls.join(" "), state.loaded.join(" "), state.refused.join(" ")];
    let (peak, left) = (state.peak, state.left());
    let complaints: String = state.complaints.iter().map(|line| format!("{line}\n")).collect();
    let report = format!("{calls}\n{peak}\n{refused}\n{kernels}\n{complaints}{left}");
    CString::new(report).map_or(std::ptr::null(), |report| report.into_raw().cast_const())
}

/// Lookups, which need no device and do not count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(code: u32, text: *mut *const c_char) -> u32 {
    let name = match code {
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        100 => c"CUDA_ERROR_NO_DEVICE",
        700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        0..1000 => c"CUDA_ERROR_OF_A_TEST",
        _ => return INVALID_VALUE,
    };
    unsafe { *text = name.as_ptr() };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(code: u32, text: *mut *const c_char) -> u32 {
    unsafe { cuGetErrorName(code, text) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> u32 {
    call("cuInit", |_| Ok(()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> u32 {
    call("cuDeviceGet", |_| {
        unsafe { *device = ordinal };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, bytes: c_int, _device: c_int) -> u32 {
    call("cuDeviceGetName", |_| {
        let text = c"no device".to_bytes_with_nul();
        let bytes = text.len().min(bytes as usize);
        unsafe { name.copy_from_nonoverlapping(text.as_ptr().cast(), bytes) };
        Ok(())
    })
}

/// An H100's numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: u32, _: c_int) -> u32 {
    call("cuDeviceGetAttribute", |_| {
        let number = match attribute {
            16 => 132,
            75 => 9,
            76 => 0,
            97 => 232_448,
            _ => return Err(INVALID_VALUE),
        };
        unsafe { *value = number };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut u64, _device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRetain", |state| {
        if state.context.1 == 0 {
            state.reserve(CONTEXT_BYTES)?;
            state.context.0 = state.handle(0);
        }
        state.context.1 += 1;
        unsafe { *context = state.context.0 };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRelease_v2", |state| {
        state.check(state.context.1 > 0, "no context")?;
        state.context.1 -= 1;
        let left = state.left();
        if state.context.1 == 0 && !left.is_empty() {
            state.complain(&format!("the context ends, and {left}"));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: u64) -> u32 {
    call("cuCtxSetCurrent", |state| {
        state.check(state.context.1 > 0 && context == state.context.0, "no such context")?;
        CURRENT.set(context);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> u32 {
    call("cuCtxSynchronize", State::entered)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> u32 {
    call("cuMemGetInfo_v2", |state| {
        state.entered()?;
        unsafe { *free = state.capacity.saturating_sub(state.used()) };
        unsafe { *total = state.capacity };
        Ok(())
    })
}

/// The only attribute that is asked for: the ordinal of the memory's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuPointerGetAttribute(to: *mut i32, _attribute: u32, at: u64) -> u32 {
    call("cuPointerGetAttribute", |state| {
        state.memory(at, 1)?;
        unsafe { *to = 0 };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> u32 {
    call("cuMemAlloc_v2", |state| {
        state.entered()?;
        state.reserve(bytes)?;
        let handle = state.handle(bytes);
        state.buffers.insert(handle, vec![0; bytes]);
        unsafe { *address = handle };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> u32 {
    call("cuMemFree_v2", |state| {
        let entered = state.entered();
        let lived = state.buffers.remove(&address).is_some();
        state.check(lived, "no such buffer")?;
        entered
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const u8, bytes: usize) -> u32 {
    call("cuMemcpyHtoD_v2", |state| {
        let to = state.memory(to, bytes)?;
        to.copy_from_slice(unsafe { std::slice::from_raw_parts(from, bytes) });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut u8, from: u64, bytes: usize) -> u32 {
    call("cuMemcpyDtoH_v2", |state| {
        let from = state.memory(from, bytes)?;
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), bytes) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8_v2(to: u64, value: u8, bytes: usize) -> u32 {
    call("cuMemsetD8_v2", |state| {
        state.memory(to, bytes)?.fill(value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreateWithPriority(stream: *mut u64, _: c_uint, _: c_int) -> u32 {
    call("cuStreamCreateWithPriority", |state| {
        state.entered()?;
        state.reserve(STREAM_BYTES)?;
        let handle = state.handle(0);
        state.streams.push(handle);
        unsafe { *stream = handle };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: u64) -> u32 {
    call("cuStreamSynchronize", |state| state.check_stream(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: u64) -> u32 {
    call("cuStreamDestroy_v2", |state| {
        let entered = state.entered();
        let at = state.streams.iter().position(|&other| other == stream);
        state.check(at.is_some(), "no such CUDA stream")?;
        state.streams.retain(|&other| other != stream);
        entered
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut u64, image: *const c_char) -> u32 {
    call("cuModuleLoadData", |state| {
        state.entered()?;
        let ptx = unsafe { CStr::from_ptr(image) }.to_str().map_err(|_| INVALID_PTX)?;
        if !ptx.contains(".version") {
            return Err(INVALID_PTX);
        }
        state.reserve(MODULE_BYTES)?;
        let handle = state.handle(0);
        state.modules.insert(handle, ptx.to_owned());
        unsafe { *module = handle };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: u64) -> u32 {
    call("cuModuleUnload", |state| {
        let entered = state.entered();
        let lived = state.modules.remove(&module).is_some();
        state.check(lived, "no such module")?;
        state.kernels.retain(|_, (of, _)| *of != module);
        entered
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    kernel: *mut u64,
    module: u64,
    name: *const c_char,
) -> u32 {
    call("cuModuleGetFunction", |state| {
        state.entered()?;
        state.check(state.modules.contains_key(&module), "no such module")?;
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        let declared = parameters(&state.modules[&module], &name).ok_or(NOT_FOUND)?;
        let handle = state.handle(0);
        state.kernels.insert(handle, (module, declared));
        state.loaded.push(name);
        unsafe { *kernel = handle };
        Ok(())
    })
}

/// A kernel's parameters, as they are declared: `.param .u32 name` or `.param .u64 .ptr .align 1 name`.
fn parameters(ptx: &str, name: &str) -> Option<Vec<(usize, bool)>> {
    let (_, rest) = ptx.split_once(&format!(".entry {name}("))?;
    let (declared, _) = rest.split_once(')')?;
    let parameter =
        |text: &str| (if text.starts_with(".u64") { 8 } else { 4 }, text.contains(".ptr"));
    Some(declared.split(".param ").skip(1).map(parameter).collect())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(kernel: u64, _attribute: u32, _value: c_int) -> u32 {
    call("cuFuncSetAttribute", |state| {
        state.entered()?;
        state.check(state.kernels.contains_key(&kernel), "no such kernel")
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    kernel: u64,
    blocks: c_uint,
    _: c_uint,
    _: c_uint,
    threads: c_uint,
    _: c_uint,
    _: c_uint,
    _shared_memory: c_uint,
    stream: u64,
    parameters: *const *const c_void,
    _extra: *const c_void,
) -> u32 {
    call("cuLaunchKernel", |state| {
        state.check_stream(stream)?;
        state.check(blocks > 0 && threads > 0, "nothing to launch")?;
        let declared = state.kernels.get(&kernel).map(|(_, declared)| declared.clone());
        state.check(declared.is_some(), "no such kernel")?;
        for (at, (bytes, is_address)) in declared.unwrap_or_default().into_iter().enumerate() {
            let value = unsafe { parameter(*parameters.add(at), bytes) };
            if is_address && value != 0 {
                state.memory(value, 1)?;
            }
        }
        Ok(())
    })
}

/// The value of a parameter of so many bytes.
unsafe fn parameter(at: *const c_void, bytes: usize) -> u64 {
    let mut value = [0; 8];
    value[..bytes].copy_from_slice(unsafe { std::slice::from_raw_parts(at.cast(), bytes) });
    u64::from_le_bytes(value)
}
