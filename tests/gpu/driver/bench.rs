//! Opens fake devices with kernels that do nothing, and runs the scenario on them.

use super::fake::{Fake, Fault, Report};
use super::scenario::{self, Errors};
use fused_rans::BlobError;
use fused_rans::gpu::{Gpu, GpuError, KernelSet};
use fused_rans::layout::{
    ChecksumArgs, DecodeArgs, DenseArgs, KernelFamily, KernelId, LeanDecodeArgs, LeanMatmulArgs,
    MatmulArgs,
};
use std::panic::catch_unwind;

/// No limit of device memory.
pub const ROOM: usize = usize::MAX;

/// Declarations of all kernels of each set, which do nothing.
pub struct Ptx {
    sm80: String,
    sm90: String,
}

impl Ptx {
    fn new() -> Self {
        let [sm80, sm90] = [KernelSet::Sm80, KernelSet::Sm90].map(declarations);
        Self { sm80, sm90 }
    }

    pub fn text(&self, set: KernelSet) -> &str {
        match set {
            KernelSet::Sm80 => &self.sm80,
            KernelSet::Sm90 => &self.sm90,
        }
    }

    /// Opens a device with the kernels of `preferred`, or their fallback.
    pub fn open(&self, ordinal: u32, preferred: KernelSet) -> Result<Gpu, GpuError> {
        Gpu::open_preferring(ordinal, |_| preferred, |set| self.text(set))
    }
}

/// The fake driver, layers, and declarations of all kernels, which do nothing.
pub struct Bench {
    pub fake: Fake,
    /// The kernels that devices are opened with.
    pub set: KernelSet,
    pub layers: Vec<Vec<u8>>,
    pub ptx: Ptx,
    /// The report of a run without faults.
    pub clean: Report,
}

impl Bench {
    /// Returns `None` if this process does not run on the fake driver.
    pub fn new(set: KernelSet) -> Option<Self> {
        let fake = Fake::of_this_process()?;
        let layers = scenario::layers();
        fake.begin(Fault::default(), ROOM);
        let ptx = Ptx::new();
        let errors = scenario::run(|| ptx.open(0, set), &layers);
        let clean = fake.report();
        assert_clean(&errors, &clean);
        Some(Self { fake, set, layers, ptx, clean })
    }

    /// Returns one for each set of kernels; none if this process does not run on the fake driver.
    pub fn of_all_sets() -> impl Iterator<Item = Self> {
        [KernelSet::Sm80, KernelSet::Sm90].into_iter().filter_map(Self::new)
    }

    pub fn open(&self, ordinal: u32) -> Result<Gpu, GpuError> {
        self.ptx.open(ordinal, self.set)
    }

    /// Runs the scenario. Returns its errors and the driver's report.
    pub fn run(&self, fault: Fault, capacity: usize) -> (Errors, Report) {
        self.fake.begin(fault, capacity);
        let errors = catch_unwind(|| scenario::run(|| self.open(0), &self.layers));
        let report = self.fake.report();
        let errors = errors.unwrap_or_else(|_| panic!("a panic after {fault:?}, {capacity}"));
        assert_eq!(report.complaints, "", "{fault:?}, {capacity} bytes");
        (errors, report)
    }

    /// Runs the scenario without a fault and checks that nothing fails.
    pub fn run_cleanly(&self) {
        let (errors, report) = self.run(Fault::default(), ROOM);
        assert_clean(&errors, &report);
        assert_eq!(report.calls, self.clean.calls);
    }
}

/// Returns PTX with all kernels of a set, which do nothing. Each has its argument structure.
fn declarations(set: KernelSet) -> String {
    let head = match set {
        KernelSet::Sm80 => ".version 7.4\n.target sm_80\n",
        KernelSet::Sm90 => ".version 8.0\n.target sm_90a\n",
    };
    KernelId::all().fold(head.to_owned(), |ptx, kernel| {
        let (name, bytes) = (kernel.name(), argument_bytes(set, kernel.family()));
        let arguments = format!(".param .align 8 .b8 {name}_param_0[{bytes}]");
        format!("{ptx}.visible .entry {name}(\n\t{arguments}\n)\n{{\n\tret;\n}}\n")
    })
}

fn argument_bytes(set: KernelSet, family: KernelFamily) -> usize {
    use KernelSet::{Sm80, Sm90};
    match (family, set) {
        (KernelFamily::Checksum, _) => size_of::<ChecksumArgs>(),
        (KernelFamily::Dense { .. }, _) => size_of::<DenseArgs>(),
        (KernelFamily::Decode { .. }, Sm80) => size_of::<DecodeArgs>(),
        (KernelFamily::Decode { .. }, Sm90) => size_of::<LeanDecodeArgs>(),
        (_, Sm80) => size_of::<MatmulArgs>(),
        (_, Sm90) => size_of::<LeanMatmulArgs>(),
    }
}

/// Checks that there are no mistakes, and no errors except those about wrong weights, which kernels that do nothing give.
pub fn assert_clean(errors: &Errors, report: &Report) {
    assert!(errors.0.iter().all(is_of_weights) && errors.0.len() == 3, "{errors:?}");
    assert_eq!(report.complaints, "");
}

pub fn is_of_weights(error: &GpuError) -> bool {
    matches!(error, GpuError::Blob(BlobError::WeightsChecksum))
}
