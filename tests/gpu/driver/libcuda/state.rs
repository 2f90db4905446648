//! The driver's state: everything that is allocated, and the caller's mistakes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub const INVALID_VALUE: u32 = 1;
pub const OUT_OF_MEMORY: u32 = 2;
pub const INVALID_DEVICE: u32 = 101;
pub const INVALID_CONTEXT: u32 = 201;
pub const NO_BINARY_FOR_GPU: u32 = 209;
pub const INVALID_PTX: u32 = 218;
pub const INVALID_HANDLE: u32 = 400;
pub const NOT_FOUND: u32 = 500;
pub const NOT_READY: u32 = 600;
pub const CONTEXT_IS_DESTROYED: u32 = 709;

/// Bytes of device memory that things other than buffers take.
const CONTEXT_BYTES: usize = 1 << 16;
pub const MODULE_BYTES: usize = 1 << 14;
pub const STREAM_BYTES: usize = 1 << 12;
pub const EVENT_BYTES: usize = 1 << 8;

/// Number before the first address or handle.
pub const FIRST_ADDRESS: u64 = 1 << 46;

pub const DEVICES: usize = 2;

static STATE: Mutex<State> = Mutex::new(State::new());

thread_local! {
    /// The current context.
    pub static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// A device's primary context and its number of owners.
#[derive(Clone, Copy)]
pub struct Context {
    pub handle: u64,
    pub retained: usize,
}

/// A thing and the device that it belongs to.
pub struct Owned<T> {
    pub device: usize,
    pub value: T,
}

pub struct Kernel {
    pub module: u64,
    /// Size in bytes of the argument structure.
    pub argument_bytes: usize,
}

pub struct State {
    pub calls: Vec<&'static str>,
    /// The number of the call that fails (from 1), its code, and whether all later calls fail, too.
    pub fault: (usize, u32, bool),
    /// Whether the injected fault has happened.
    pub faulty: bool,
    /// Compute capability of the devices.
    pub capability: (i32, i32),
    /// Code with which PTX for `sm_90a` is refused; 0 if it is accepted.
    pub refusal: u32,
    /// Bytes of memory of all devices together.
    pub capacity: usize,
    /// Largest number of bytes in use.
    pub peak: usize,
    /// Sizes of failed allocations.
    pub refused: Vec<String>,
    /// The last handle or address. None is used twice.
    pub last: u64,
    pub contexts: [Context; DEVICES],
    /// Whether the contexts were destroyed.
    pub destroyed: bool,
    pub buffers: BTreeMap<u64, Owned<Vec<u8>>>,
    pub streams: BTreeMap<u64, Owned<()>>,
    pub events: BTreeMap<u64, Owned<()>>,
    pub graphs: BTreeMap<u64, Owned<()>>,
    /// Page-locked host memory.
    pub host: BTreeMap<u64, Owned<Vec<u8>>>,
    /// Number of queries of events.
    pub queries: usize,
    /// Modules and their PTX.
    pub modules: BTreeMap<u64, Owned<String>>,
    pub kernels: BTreeMap<u64, Kernel>,
    /// The caller's mistakes.
    pub complaints: Vec<String>,
}

impl State {
    pub const fn new() -> Self {
        Self {
            calls: Vec::new(),
            fault: (0, 0, false),
            faulty: false,
            capability: (9, 0),
            refusal: 0,
            capacity: usize::MAX,
            peak: 0,
            refused: Vec::new(),
            last: FIRST_ADDRESS,
            contexts: [Context { handle: 0, retained: 0 }; DEVICES],
            destroyed: false,
            buffers: BTreeMap::new(),
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            graphs: BTreeMap::new(),
            host: BTreeMap::new(),
            queries: 0,
            modules: BTreeMap::new(),
            kernels: BTreeMap::new(),
            complaints: Vec::new(),
        }
    }

    pub fn get() -> MutexGuard<'static, Self> {
        STATE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a new handle, or a new address with `bytes` bytes behind it.
    pub fn handle(&mut self, bytes: usize) -> u64 {
        let handle = self.last.next_multiple_of(256);
        self.last = handle + bytes as u64 + 256;
        handle
    }

    pub fn complain(&mut self, what: &str) {
        let call = self.calls.last().copied().unwrap_or("");
        self.complaints.push(format!("{call} (call {}): {what}", self.calls.len()));
    }

    /// Records a mistake unless `lives`.
    pub fn check(&mut self, lives: bool, what: &str) -> Result<(), u32> {
        if lives {
            return Ok(());
        }
        self.complain(what);
        Err(INVALID_HANDLE)
    }

    /// Returns the code that the current call has to fail with.
    pub fn injected(&mut self) -> Option<u32> {
        let (at, code, sticky) = self.fault;
        let now = self.calls.len();
        let fails = at != 0 && (now == at || sticky && now > at);
        self.faulty |= fails;
        fails.then_some(code)
    }

    pub fn used(&self) -> usize {
        let buffers: usize = self.buffers.values().map(|buffer| buffer.value.len()).sum();
        let contexts = self.contexts.iter().filter(|context| context.retained > 0).count();
        let (streams, modules) = (self.streams.len(), self.modules.len());
        let events = EVENT_BYTES * self.events.len();
        buffers
            + CONTEXT_BYTES * contexts
            + STREAM_BYTES * streams
            + MODULE_BYTES * modules
            + events
    }

    /// Checks that `bytes` more bytes fit.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), u32> {
        if bytes <= self.capacity.saturating_sub(self.used()) {
            return Ok(());
        }
        self.refused.push(bytes.to_string());
        Err(OUT_OF_MEMORY)
    }

    pub fn retain(&mut self, device: usize) -> Result<u64, u32> {
        if self.contexts.get(device).ok_or(INVALID_DEVICE)?.retained == 0 {
            self.reserve(CONTEXT_BYTES)?;
            self.contexts[device].handle = self.handle(0);
        }
        self.contexts[device].retained += 1;
        Ok(self.contexts[device].handle)
    }

    pub fn release(&mut self, device: usize) -> Result<(), u32> {
        let retained = self.contexts.get(device).ok_or(INVALID_DEVICE)?.retained;
        self.check(retained > 0, "no context")?;
        self.contexts[device].retained -= 1;
        let left = self.left(device);
        if self.contexts[device].retained == 0 && !left.is_empty() {
            self.complain(&format!("the context ends, and {left}"));
        }
        Ok(())
    }

    /// Returns the device that a context belongs to.
    pub fn device_of(&self, handle: u64) -> Option<usize> {
        self.contexts.iter().position(|context| context.retained > 0 && context.handle == handle)
    }

    /// Returns the device of the current context.
    pub fn entered(&mut self) -> Result<usize, u32> {
        if self.destroyed {
            return Err(CONTEXT_IS_DESTROYED);
        }
        if let Some(device) = self.device_of(CURRENT.get()) {
            return Ok(device);
        }
        // Entering the context may have been the call that failed.
        if !self.faulty {
            self.complain("no context");
        }
        Err(INVALID_CONTEXT)
    }

    /// Returns the buffer that contains `address`, and the offset in it.
    fn buffer(&mut self, address: u64) -> Option<(&mut Owned<Vec<u8>>, usize)> {
        let (start, buffer) = self.buffers.range_mut(..=address).next_back()?;
        let at = (address - start) as usize;
        (at < buffer.value.len()).then_some((buffer, at))
    }

    /// Returns `bytes` bytes at a device address.
    pub fn memory(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], u32> {
        let device = self.entered()?;
        let fits = self.buffer(address).is_some_and(|(buffer, at)| {
            buffer.device == device && at + bytes <= buffer.value.len()
        });
        self.check(fits, "outside of all of the device's buffers that live")?;
        let (buffer, at) = self.buffer(address).ok_or(INVALID_VALUE)?;
        Ok(&mut buffer.value[at..at + bytes])
    }

    /// Returns the device whose memory contains `address`.
    pub fn device_of_memory(&mut self, address: u64) -> Result<usize, u32> {
        if self.destroyed {
            return Err(INVALID_VALUE);
        }
        self.entered()?;
        self.buffer(address).map(|(buffer, _)| buffer.device).ok_or(INVALID_VALUE)
    }

    /// Checks that a CUDA stream lives and belongs to the current context.
    pub fn check_stream(&mut self, stream: u64) -> Result<(), u32> {
        let device = self.entered()?;
        let owner = self.streams.get(&stream).map(|stream| stream.device);
        self.check(stream == 0 || owner.is_some(), "no such CUDA stream")?;
        if owner.is_some_and(|owner| owner != device) { Err(INVALID_HANDLE) } else { Ok(()) }
    }

    /// Checks that an event lives on the current device.
    pub fn check_event(&mut self, event: u64) -> Result<(), u32> {
        let device = self.entered()?;
        let owner = self.events.get(&event).map(|event| event.device);
        self.check(owner == Some(device), "no such event on this device")
    }

    /// Makes a graph.
    pub fn graph(&mut self) -> Result<u64, u32> {
        let device = self.entered()?;
        let handle = self.handle(0);
        self.graphs.insert(handle, Owned { device, value: () });
        Ok(handle)
    }

    /// Checks that a graph lives on the current device.
    pub fn check_graph(&mut self, graph: u64) -> Result<(), u32> {
        let device = self.entered()?;
        let owner = self.graphs.get(&graph).map(|graph| graph.device);
        self.check(owner == Some(device), "no such graph on this device")
    }

    /// Returns whether host memory at `address` is page-locked.
    pub fn page_locked(&self, address: u64) -> bool {
        let before = self.host.range(..=address).next_back();
        before.is_some_and(|(start, owned)| address - start < owned.value.len() as u64)
    }

    /// Checks that `thing`, which was just removed, existed, and that its device's context is current, unless the failed
    /// call was entering the context.
    pub fn give_back<T>(&mut self, thing: Option<Owned<T>>, name: &str) -> Result<(), u32> {
        let entered = self.entered();
        let Some(Owned { device, .. }) = thing else {
            return self.check(false, &format!("no such {name}"));
        };
        let here = entered? == device || self.faulty;
        self.check(here, &format!("a {name} of another device"))
    }

    /// Returns the PTX of a module, which must live on the current device.
    pub fn module(&mut self, module: u64) -> Result<&str, u32> {
        let device = self.entered()?;
        let owner = self.modules.get(&module).map(|module| module.device);
        self.check(owner == Some(device), "no such module on this device")?;
        Ok(&self.modules[&module].value)
    }

    /// Returns the bytes of a kernel's arguments; the kernel must live on the current device.
    pub fn kernel(&mut self, kernel: u64) -> Result<usize, u32> {
        self.entered()?;
        let lives = self.kernels.get(&kernel).map(|kernel| (kernel.module, kernel.argument_bytes));
        self.check(lives.is_some(), "no such kernel")?;
        let (module, argument_bytes) = lives.ok_or(INVALID_HANDLE)?;
        self.module(module).map(|_| argument_bytes)
    }

    /// Returns a list of everything on a device that was not freed.
    pub fn left(&self, device: usize) -> String {
        let Self { contexts, buffers, streams, modules, events, graphs, host, .. } = self;
        // A context that was destroyed, or that a fault said so of, has ended its CUDA streams, events and graphs. With a real
        // driver, using a CUDA stream's handle is a segmentation fault.
        let ended = self.destroyed || self.faulty && self.fault.1 == CONTEXT_IS_DESTROYED;
        let within = |count: usize| if ended { 0 } else { count };
        fn count<T>(things: &BTreeMap<u64, Owned<T>>, device: usize) -> usize {
            things.values().filter(|thing| thing.device == device).count()
        }
        let things = [
            (contexts[device].retained, "contexts"),
            (count(buffers, device), "buffers"),
            (within(count(streams, device)), "CUDA streams"),
            (count(modules, device), "modules"),
            (within(count(events, device)), "events"),
            (within(count(graphs, device)), "graphs"),
            (count(host, device), "page-locked buffers"),
        ];
        let left = things.iter().filter(|(count, _)| *count > 0);
        left.map(|(count, name)| format!("{count} {name} left on device {device}\n")).collect()
    }
}
