//! What must hold of the embedded PTX, whichever compiler built it.

use flate2::read::GzDecoder;
use fused_rans_layout::{
    ChecksumArgs, DecodeArgs, DenseArgs, KernelFamily, KernelId, MatmulArgs, slabs_at_once,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::LazyLock;

/// The text that the library embeds.
static PTX: LazyLock<String> = LazyLock::new(|| {
    let mut text = String::new();
    let compressed: &[u8] = include_bytes!(env!("FUSED_RANS_PTX"));
    GzDecoder::new(compressed).read_to_string(&mut text).expect("compressed text");
    text
});

/// Number of kernels: 14 codings of weights for each of two types of activations, each with kernels for 8, 16, 32 and 64
/// rows and one that writes fragments; 5 that decode, 2 that multiply uncompressed weights, and one that verifies.
const KERNELS: usize = 2 * 14 * 5 + 5 + 2 + 1;

/// Bodies of all kernels, by name.
fn kernels() -> BTreeMap<&'static str, &'static str> {
    let rest = PTX.split(".visible .entry ").skip(1);
    rest.map(|rest| rest.split_once('(').expect("parameters")).collect()
}

#[test]
fn the_ptx_has_the_kernels_of_the_table() {
    let (found, mut wanted) = (kernels(), BTreeMap::new());
    for kernel in KernelId::all() {
        assert!(wanted.insert(kernel.name(), kernel).is_none(), "{} twice", kernel.name());
    }
    assert!(found.keys().eq(wanted.keys()), "{:?}", found.keys());
    assert_eq!(found.len(), KERNELS);
}

/// Every kernel takes one structure, by value.
#[test]
fn parameters_are_the_structures_of_the_launch_contract() {
    for kernel in KernelId::all() {
        let bytes = match kernel.family() {
            KernelFamily::Checksum => size_of::<ChecksumArgs>(),
            KernelFamily::Decode { .. } => size_of::<DecodeArgs>(),
            KernelFamily::Dense { .. } => size_of::<DenseArgs>(),
            KernelFamily::Matmul { .. } | KernelFamily::Fragments { .. } => size_of::<MatmulArgs>(),
            family => panic!("{family:?}"),
        };
        let name = kernel.name();
        let parameter = format!(".param .align 8 .b8 {name}_param_0[{bytes}]");
        let (parameters, _) = kernels()[name].split_once(')').expect("an end of the parameters");
        assert_eq!(parameters.trim(), parameter);
    }
}

/// Counts of the instructions of a kernel that threads must execute together.
#[derive(Debug, PartialEq, Eq)]
struct Convergent {
    bar_sync: usize,
    bar_warp_sync: usize,
    vote_sync: usize,
    shfl_sync: usize,
    mma_sync: usize,
    /// All other `.sync` instructions.
    others: usize,
}

impl Convergent {
    fn count(body: &str) -> Self {
        let count = |instruction| body.matches(instruction).count();
        let [bar_sync, bar_warp_sync] = ["bar.sync", "bar.warp.sync"].map(count);
        let [vote_sync, shfl_sync, mma_sync] = ["vote.sync", "shfl.sync", "mma.sync"].map(count);
        let known = bar_sync + bar_warp_sync + vote_sync + shfl_sync + mma_sync;
        let others = count(".sync") - known;
        Self { bar_sync, bar_warp_sync, vote_sync, shfl_sync, mma_sync, others }
    }

    /// The counts in the sources of a mainloop for `slabs` slabs at a time, in which the code of a stage is `stages` times,
    /// without what it multiplies with.
    fn mainloop(slabs: usize, stages: usize) -> Self {
        Self {
            // The table is there.
            bar_sync: 1,
            // For a segment that could not be prepared early: its record, its slots, its tail lengths, everything. For the
            // next one: its record, its slots, for both. What a stage has waited for; words are not read any more.
            bar_warp_sync: 4 + 3 + stages + 1,
            // Which lanes have a word in a tail row, of a segment with all slabs and of one with one slab, for both of
            // these; whether all lanes have taken their words.
            vote_sync: 2 * (slabs + 1) + 1,
            ..Self::NONE
        }
    }

    const NONE: Self =
        Self { bar_sync: 0, bar_warp_sync: 0, vote_sync: 0, shfl_sync: 0, mma_sync: 0, others: 0 };

    /// The counts in the sources of a kernel; `None` if they are not checked.
    fn wanted(family: KernelFamily) -> Option<Self> {
        match family {
            // The table is there; the warps' sums are, each of which five exchanges make.
            KernelFamily::Checksum => Some(Self { bar_sync: 2, shfl_sync: 5, ..Self::NONE }),
            // The table is there; the tile's record is, and the warp has stored its slab; which lanes have a word in a
            // tail row.
            KernelFamily::Decode { .. } => {
                Some(Self { bar_sync: 1, bar_warp_sync: 2, vote_sync: 1, ..Self::NONE })
            }
            KernelFamily::Fragments { .. } => Some(Self::mainloop(2, 2)),
            KernelFamily::Matmul { octets, .. } => {
                let octets = octets as usize;
                let slabs = slabs_at_once(octets);
                // Both stages of a panel, or one for both.
                let stages = if octets > 2 { 1 } else { 2 };
                // Two steps of two strips of every slab; in the slow path, one for each strip.
                let mma_sync = octets * (stages * 2 * 2 * slabs + 2);
                let mainloop = Self::mainloop(slabs, stages);
                // All warps are done; a block's sums are visible to others, and which block comes last.
                Some(Self {
                    bar_sync: mainloop.bar_sync + 1,
                    bar_warp_sync: mainloop.bar_warp_sync + 1,
                    shfl_sync: 1,
                    mma_sync,
                    ..mainloop
                })
            }
            _ => None,
        }
    }
}

#[test]
fn what_waits_for_other_threads_was_not_copied_into_branches() {
    let kernels = kernels();
    for kernel in KernelId::all() {
        if let Some(wanted) = Convergent::wanted(kernel.family()) {
            let name = kernel.name();
            assert_eq!(Convergent::count(kernels[name]), wanted, "{name}");
        }
    }
}

#[test]
fn nothing_is_in_local_memory() {
    for (name, body) in kernels() {
        assert!(!body.contains(".local"), "{name} indexes registers");
    }
}
