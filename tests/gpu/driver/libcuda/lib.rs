//! A CUDA driver without a device, for tests: the functions of `libcuda.so.1` that this project calls. Device memory is
//! host memory, and kernels do nothing. The driver records every handle: [`fake_report`] lists uses of destroyed handles,
//! accesses outside of buffers, and leaks. [`fake_begin`] injects a fault into a call.
#![allow(non_snake_case, reason = "the driver's names")]
#![allow(
    clippy::missing_safety_doc,
    clippy::undocumented_unsafe_blocks,
    reason = "as the driver's"
)]

mod state;

use state::*;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

/// Calls that free something. They free it even if they fail, because callers only have to try.
const ENDS: [&str; 8] = [
    "cuMemFree_v2",
    "cuMemFreeHost",
    "cuStreamDestroy_v2",
    "cuEventDestroy_v2",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuModuleUnload",
    "cuDevicePrimaryCtxRelease_v2",
];

/// Counts and records a call of the driver, and returns its result. Every call goes through here.
fn call(name: &'static str, work: impl FnOnce(&mut State) -> Result<(), u32>) -> u32 {
    let mut state = State::get();
    state.calls.push(name);
    let injected = state.injected();
    if injected.is_some() && !ENDS.contains(&name) {
        return injected.unwrap_or(0);
    }
    let result = work(&mut state);
    state.peak = state.peak.max(state.used());
    injected.or(result.err()).unwrap_or(0)
}

/// Resets the driver. Call number `at` (0 for none) fails with `code`, and so do all later calls if `sticky`. The devices
/// have `capacity` bytes together.
#[unsafe(no_mangle)]
pub extern "C" fn fake_begin(at: usize, code: u32, sticky: bool, capacity: usize) {
    let mut state = State::get();
    let last = state.last;
    *state = State { last, fault: (at, code, sticky), capacity, ..State::new() };
}

/// Sets the devices' memory to `capacity` bytes together.
#[unsafe(no_mangle)]
pub extern "C" fn fake_capacity(capacity: usize) {
    State::get().capacity = capacity;
}

/// Makes the devices have compute capability `major.minor`. If `refusal` is not 0, the driver refuses PTX for `sm_90a` with
/// this code, as an old one does.
#[unsafe(no_mangle)]
pub extern "C" fn fake_capability(major: c_int, minor: c_int, refusal: u32) {
    let mut state = State::get();
    state.capability = (major, minor);
    state.refusal = refusal;
}

/// Destroys the contexts and everything in them. As with real devices, they can still be entered, and their addresses are
/// unknown.
#[unsafe(no_mangle)]
pub extern "C" fn fake_destroy() {
    let mut state = State::get();
    state.destroyed = true;
    state.streams.clear();
    state.graphs.clear();
}

/// Returns a report as lines: the calls since [`fake_begin`]; the largest number of bytes in use; the sizes of failed
/// allocations; then the caller's mistakes and leaks. The text is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn fake_report() -> *const c_char {
    let state = State::get();
    let [calls, refused] = [state.calls.join(" "), state.refused.join(" ")];
    let (peak, left) =
        (state.peak, (0..DEVICES).map(|device| state.left(device)).collect::<String>());
    let complaints: String = state.complaints.iter().map(|line| format!("{line}\n")).collect();
    let report = format!("{calls}\n{peak}\n{refused}\n{complaints}{left}");
    CString::new(report).map_or(std::ptr::null(), |report| report.into_raw().cast_const())
}

/// Looks up a function. Needs no device and is not counted as a call.
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
        if !(0..DEVICES as c_int).contains(&ordinal) {
            return Err(INVALID_DEVICE);
        }
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

/// Returns an attribute of the device, with an H100's value unless a test has set another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: u32, _: c_int) -> u32 {
    call("cuDeviceGetAttribute", |state| {
        let number = match attribute {
            16 => 132,
            75 => state.capability.0,
            76 => state.capability.1,
            97 => 232_448,
            _ => return Err(INVALID_VALUE),
        };
        unsafe { *value = number };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut u64, device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRetain", |state| {
        unsafe { *context = state.retain(device as usize)? };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRelease_v2", |state| state.release(device as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: u64) -> u32 {
    call("cuCtxSetCurrent", |state| {
        state.check(state.device_of(context).is_some(), "no such context")?;
        CURRENT.set(context);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetStreamPriorityRange(_least: *mut i32, _greatest: *mut i32) -> u32 {
    call("cuCtxGetStreamPriorityRange", |state| state.entered().map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> u32 {
    call("cuCtxSynchronize", |state| state.entered().map(drop))
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

/// Returns the ordinal of the device that memory belongs to, or the type of host memory. Asking about unknown memory is
/// not recorded as a mistake.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuPointerGetAttribute(to: *mut i32, attribute: u32, at: u64) -> u32 {
    let (name, host) = match attribute {
        2 => ("cuPointerGetAttribute(host)", true),
        _ => ("cuPointerGetAttribute", false),
    };
    call(name, |state| {
        let value = match host {
            true => state.page_locked(at).then_some(1).ok_or(INVALID_VALUE)?,
            false => state.device_of_memory(at)? as i32,
        };
        unsafe { *to = value };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostAlloc(memory: *mut *mut c_void, bytes: usize, _: c_uint) -> u32 {
    call("cuMemHostAlloc", |state| {
        let device = state.entered()?;
        let mut value = vec![0xA5u8; bytes];
        unsafe { *memory = value.as_mut_ptr().cast() };
        state.host.insert(value.as_ptr().addr() as u64, Owned { device, value });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(memory: u64) -> u32 {
    call("cuMemFreeHost", |state| {
        let memory = state.host.remove(&memory);
        state.give_back(memory, "page-locked buffer")
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> u32 {
    call("cuMemAlloc_v2", |state| {
        let device = state.entered()?;
        state.reserve(bytes)?;
        let handle = state.handle(bytes);
        state.buffers.insert(handle, Owned { device, value: vec![0; bytes] });
        unsafe { *address = handle };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> u32 {
    call("cuMemFree_v2", |state| {
        let buffer = state.buffers.remove(&address);
        state.give_back(buffer, "buffer")
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const u8,
    bytes: usize,
    stream: u64,
) -> u32 {
    call("cuMemcpyHtoDAsync_v2", |state| {
        state.check_stream(stream)?;
        let to = state.memory(to, bytes)?;
        to.copy_from_slice(unsafe { std::slice::from_raw_parts(from, bytes) });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut u8,
    from: u64,
    bytes: usize,
    stream: u64,
) -> u32 {
    call("cuMemcpyDtoHAsync_v2", |state| {
        state.check_stream(stream)?;
        let from = state.memory(from, bytes)?;
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), bytes) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> u32 {
    call("cuMemcpyDtoDAsync_v2", |state| {
        state.check_stream(stream)?;
        let copy = state.memory(from, bytes)?.to_vec();
        state.memory(to, bytes)?.copy_from_slice(&copy);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: u64) -> u32 {
    call("cuMemsetD8Async", |state| {
        state.check_stream(stream)?;
        state.memory(to, bytes)?.fill(value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(stream: *mut u64, _: c_uint) -> u32 {
    call("cuStreamCreate", |state| {
        let device = state.entered()?;
        state.reserve(STREAM_BYTES)?;
        let handle = state.handle(0);
        state.streams.insert(handle, Owned { device, value: () });
        unsafe { *stream = handle };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: u64, event: u64, _: c_uint) -> u32 {
    call("cuStreamWaitEvent", |state| {
        state.check_stream(stream)?;
        state.check_event(event)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: u64, _mode: c_uint) -> u32 {
    call("cuStreamBeginCapture_v2", |state| state.check_stream(stream))
}

/// Makes a graph even if the call must fail, because capturing ends in any case.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamEndCapture(stream: u64, graph: *mut u64) -> u32 {
    call("cuStreamEndCapture", |state| {
        state.check_stream(stream)?;
        unsafe { *graph = state.graph()? };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphInstantiateWithFlags(exec: *mut u64, graph: u64, _: u64) -> u32 {
    call("cuGraphInstantiateWithFlags", |state| {
        state.check_graph(graph)?;
        unsafe { *exec = state.graph()? };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(graph: u64, stream: u64) -> u32 {
    call("cuGraphLaunch", |state| {
        state.check_stream(stream)?;
        state.check_graph(graph)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: u64) -> u32 {
    call("cuGraphDestroy", |state| {
        let graph = state.graphs.remove(&graph);
        state.give_back(graph, "graph")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(graph: u64) -> u32 {
    call("cuGraphExecDestroy", |state| {
        let graph = state.graphs.remove(&graph);
        state.give_back(graph, "graph")
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut u64, _flags: c_uint) -> u32 {
    call("cuEventCreate", |state| {
        let device = state.entered()?;
        state.reserve(EVENT_BYTES)?;
        let handle = state.handle(0);
        state.events.insert(handle, Owned { device, value: () });
        unsafe { *event = handle };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: u64, stream: u64) -> u32 {
    call("cuEventRecord", |state| {
        state.check_event(event)?;
        state.check_stream(stream)
    })
}

/// Reports an event as done from the second query on.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: u64) -> u32 {
    call("cuEventQuery", |state| {
        state.check_event(event)?;
        state.queries += 1;
        if state.queries == 1 { Err(NOT_READY) } else { Ok(()) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: u64) -> u32 {
    call("cuEventSynchronize", |state| state.check_event(event))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime(ms: *mut f32, start: u64, end: u64) -> u32 {
    call("cuEventElapsedTime", |state| {
        state.check_event(start)?;
        state.check_event(end)?;
        unsafe { *ms = 1.0 };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: u64) -> u32 {
    call("cuEventDestroy_v2", |state| {
        let event = state.events.remove(&event);
        state.give_back(event, "event")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: u64) -> u32 {
    call("cuStreamSynchronize", |state| state.check_stream(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: u64) -> u32 {
    call("cuStreamDestroy_v2", |state| {
        let stream = state.streams.remove(&stream);
        state.give_back(stream, "CUDA stream")
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut u64, image: *const c_char) -> u32 {
    call("cuModuleLoadData", |state| {
        let device = state.entered()?;
        let ptx = unsafe { CStr::from_ptr(image) }.to_str().map_err(|_| INVALID_PTX)?;
        if !ptx.contains(".version") {
            return Err(INVALID_PTX);
        }
        if ptx.contains(".target sm_90a") {
            // PTX for this architecture runs on no other.
            let refusal =
                if state.capability == (9, 0) { state.refusal } else { NO_BINARY_FOR_GPU };
            if refusal != 0 {
                return Err(refusal);
            }
        }
        state.reserve(MODULE_BYTES)?;
        let handle = state.handle(0);
        state.modules.insert(handle, Owned { device, value: ptx.to_owned() });
        unsafe { *module = handle };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: u64) -> u32 {
    call("cuModuleUnload", |state| {
        state.kernels.retain(|_, kernel| kernel.module != module);
        let module = state.modules.remove(&module);
        state.give_back(module, "module")
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    kernel: *mut u64,
    module: u64,
    name: *const c_char,
) -> u32 {
    call("cuModuleGetFunction", |state| {
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        let argument_bytes = argument_bytes(state.module(module)?, &name).ok_or(NOT_FOUND)?;
        let handle = state.handle(0);
        state.kernels.insert(handle, Kernel { module, argument_bytes });
        unsafe { *kernel = handle };
        Ok(())
    })
}

/// Returns the size in bytes of a kernel's argument structure, from its declaration: `.param .align 8 .b8 name[112]`.
fn argument_bytes(ptx: &str, name: &str) -> Option<usize> {
    let (_, rest) = ptx.split_once(&format!(".entry {name}("))?;
    let (declared, _) = rest.split_once(')')?;
    let (_, bytes) = declared.split_once('[')?;
    bytes.split_once(']')?.0.parse().ok()
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(kernel: u64, _attribute: u32, _value: c_int) -> u32 {
    call("cuFuncSetAttribute", |state| state.kernel(kernel).map(drop))
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
    call("cuLaunchKernel", |state| unsafe {
        launch(state, kernel, blocks, threads, stream, parameters)
    })
}

/// `CUlaunchConfig`
#[repr(C)]
pub struct LaunchConfig {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_memory: c_uint,
    stream: u64,
    attributes: *const LaunchAttribute,
    attribute_count: c_uint,
}

/// `CUlaunchAttribute`
#[repr(C, align(8))]
pub struct LaunchAttribute {
    id: c_uint,
    reserved: c_uint,
    value: [c_uint; 16],
}

/// Expects one attribute: that the launch may start before the one before it has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernelEx(
    config: *const LaunchConfig,
    kernel: u64,
    parameters: *const *const c_void,
    _extra: *const c_void,
) -> u32 {
    call("cuLaunchKernelEx", |state| unsafe {
        let config = &*config;
        state.check(config.attribute_count == 1, "not one attribute")?;
        let LaunchAttribute { id, value, .. } = &*config.attributes;
        state.check((*id, value[0]) == (6, 1), "another attribute")?;
        let ([blocks, 1, 1], [threads, 1, 1]) = (config.grid, config.block) else {
            return state.check(false, "more than one dimension");
        };
        launch(state, kernel, blocks, threads, config.stream, parameters)
    })
}

/// Checks a launch: the addresses in the kernel's arguments are of buffers.
unsafe fn launch(
    state: &mut State,
    kernel: u64,
    blocks: c_uint,
    threads: c_uint,
    stream: u64,
    parameters: *const *const c_void,
) -> Result<(), u32> {
    state.check_stream(stream)?;
    state.check(blocks > 0 && threads > 0, "nothing to launch")?;
    let words = state.kernel(kernel)? / 8;
    let arguments: *const u64 = unsafe { (*parameters).cast() };
    for at in 0..words {
        let value = unsafe { arguments.add(at).read() };
        // All other numbers in the structures are far smaller than any address.
        if value >= FIRST_ADDRESS {
            state.memory(value, 1)?;
        }
    }
    Ok(())
}
