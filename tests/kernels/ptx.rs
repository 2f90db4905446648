//! Checks the embedded PTX of both sets: kernels, arguments, and instructions that all threads must execute together.

use fused_rans_layout::{
    ChecksumArgs, DecodeArgs, DenseArgs, KernelFamily, KernelId, LeanDecodeArgs, LeanMatmulArgs,
    MatmulArgs, PackArgs, TableKind, slabs_at_once,
};
use lzma_rust2::LzmaReader;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::LazyLock;

/// The PTX for compute capability 8.0 and newer that the library embeds, decompressed.
static SM80: LazyLock<String> =
    LazyLock::new(|| decompress(include_bytes!(env!("FUSED_RANS_PTX_SM80"))));
/// The PTX for compute capability 9.0 that the library embeds, decompressed.
static SM90: LazyLock<String> =
    LazyLock::new(|| decompress(include_bytes!(env!("FUSED_RANS_PTX_SM90"))));

fn decompress(compressed: &[u8]) -> String {
    let mut text = String::new();
    let mut reader = LzmaReader::new_mem_limit(compressed, u32::MAX, None).expect("a header");
    reader.read_to_string(&mut text).expect("compressed text");
    text
}

/// Number of kernels for compute capability 8.0: 14 codings of weights for each of two types of activations, each with kernels for 8, 16, 32 and 64
/// rows and one that writes fragments; 5 that decode, 2 that multiply uncompressed weights, and one that verifies.
const KERNELS: usize = 2 * 14 * 5 + 5 + 2 + 1;

/// Number of kernels for compute capability 9.0: none writes fragments, one packs activations, two decode only
/// resident layers, and each of 24 codings and
/// types of activations has one for 128 rows of x.
const SM90_KERNELS: usize = KERNELS - 2 * 14 + 1 + 2 + 24;

/// Returns the text of every kernel of `ptx` after its name, by name.
fn kernels(ptx: &str) -> BTreeMap<&str, &str> {
    let rest = ptx.split(".visible .entry ").skip(1);
    rest.map(|rest| rest.split_once('(').expect("parameters")).collect()
}

/// Returns the kernels of the table for compute capability 8.0.
fn sm80_ids() -> impl Iterator<Item = KernelId> {
    KernelId::all().filter(|id| {
        !matches!(
            id.family(),
            KernelFamily::Pack
                | KernelFamily::Decode { table: TableKind::Exponent, .. }
                | KernelFamily::Matmul { octets: 16, .. }
        )
    })
}

/// Returns the kernels of the table for compute capability 9.0.
fn sm90_ids() -> impl Iterator<Item = KernelId> {
    KernelId::all().filter(|id| !matches!(id.family(), KernelFamily::Fragments { .. }))
}

#[test]
fn the_ptx_has_the_kernels_of_the_table() {
    let ids: [(_, &mut dyn Iterator<Item = KernelId>, _); 2] =
        [(&SM80, &mut sm80_ids(), KERNELS), (&SM90, &mut sm90_ids(), SM90_KERNELS)];
    for (ptx, ids, count) in ids {
        let (found, mut wanted) = (kernels(ptx), BTreeMap::new());
        for kernel in ids {
            assert!(wanted.insert(kernel.name(), kernel).is_none(), "{} twice", kernel.name());
        }
        assert!(found.keys().eq(wanted.keys()), "{:?}", found.keys());
        assert_eq!(found.len(), count);
    }
}

#[test]
fn each_set_is_for_its_architecture() {
    for (ptx, version, target) in [(&SM80, "7.4", "sm_80"), (&SM90, "8.0", "sm_90a")] {
        let line = |start: &str| ptx.lines().find_map(|line| line.strip_prefix(start));
        assert_eq!(line(".version "), Some(version));
        assert_eq!(line(".target "), Some(target));
    }
}

/// Checks that every kernel takes one structure by value.
#[test]
fn parameters_are_the_structures_of_the_launch_contract() {
    let sm80 = [size_of::<DecodeArgs>(), size_of::<MatmulArgs>()];
    let sm90 = [size_of::<LeanDecodeArgs>(), size_of::<LeanMatmulArgs>()];
    check_parameters(&SM80, sm80_ids(), sm80);
    check_parameters(&SM90, sm90_ids(), sm90);
}

/// Checks the parameters of kernels that decode with `decode` bytes of arguments, and multiply with `matmul` bytes.
fn check_parameters(ptx: &str, ids: impl Iterator<Item = KernelId>, [decode, matmul]: [usize; 2]) {
    let kernels = kernels(ptx);
    for kernel in ids {
        let bytes = match kernel.family() {
            KernelFamily::Checksum => size_of::<ChecksumArgs>(),
            KernelFamily::Pack => size_of::<PackArgs>(),
            KernelFamily::Decode { .. } => decode,
            KernelFamily::Dense { .. } => size_of::<DenseArgs>(),
            KernelFamily::Matmul { .. } | KernelFamily::Fragments { .. } => matmul,
            family => panic!("{family:?}"),
        };
        let name = kernel.name();
        let parameter = format!(".param .align 8 .b8 {name}_param_0[{bytes}]");
        let (parameters, _) = kernels[name].split_once(')').expect("an end of the parameters");
        assert_eq!(parameters.trim(), parameter);
    }
}

/// Numbers of a kernel's instructions that threads must execute together. A compiler must not duplicate or remove them.
#[derive(Debug, PartialEq, Eq)]
struct Convergent {
    bar_sync: usize,
    bar_warp_sync: usize,
    vote_sync: usize,
    shfl_sync: usize,
    mma_sync: usize,
    /// Number of all other `.sync` instructions.
    others: usize,
}

impl Convergent {
    /// Counts the instructions in a kernel's text.
    fn count(body: &str) -> Self {
        let count = |instruction| body.matches(instruction).count();
        let [bar_sync, bar_warp_sync] = ["bar.sync", "bar.warp.sync"].map(count);
        let [vote_sync, shfl_sync, mma_sync] = ["vote.sync", "shfl.sync", "mma.sync"].map(count);
        let known = bar_sync + bar_warp_sync + vote_sync + shfl_sync + mma_sync;
        let others = count(".sync") - known;
        Self { bar_sync, bar_warp_sync, vote_sync, shfl_sync, mma_sync, others }
    }

    /// Returns the numbers of instructions in the source of a main loop, without its `mma.sync`. The loop decodes `slabs`
    /// slabs at a time, and contains the code of a stage `stages` times.
    fn mainloop(slabs: usize, stages: usize) -> Self {
        Self {
            // After the copy of the table.
            bar_sync: 1,
            // Four for a segment that could not be prepared early: after its record, its slots, its tail lengths and
            // its words. Three for the preparation of the next segment. One per stage, after its copies have arrived.
            // One after the last read of the words.
            bar_warp_sync: 4 + 3 + stages + 1,
            // Which lanes have a word in a tail row: for all slabs and for one slab, and both for a segment that was
            // prepared early and for one that was not. One more: whether all lanes have read their words.
            vote_sync: 2 * (slabs + 1) + 1,
            ..Self::NONE
        }
    }

    const NONE: Self =
        Self { bar_sync: 0, bar_warp_sync: 0, vote_sync: 0, shfl_sync: 0, mma_sync: 0, others: 0 };

    /// Returns the numbers of instructions in the source of a kernel. Returns `None` if they are not checked.
    fn wanted(family: KernelFamily) -> Option<Self> {
        match family {
            // Barriers after the copy of the table and after the warps' sums. A warp's sum takes five exchanges.
            KernelFamily::Checksum => Some(Self { bar_sync: 2, shfl_sync: 5, ..Self::NONE }),
            // Barriers after the copy of the table, after the tile's record, and after the warp has stored its slab.
            // The vote tells which lanes have a word in a tail row.
            KernelFamily::Decode { .. } => {
                Some(Self { bar_sync: 1, bar_warp_sync: 2, vote_sync: 1, ..Self::NONE })
            }
            KernelFamily::Fragments { .. } => Some(Self::mainloop(2, 2)),
            KernelFamily::Matmul { octets, .. } => {
                let octets = octets as usize;
                let slabs = slabs_at_once(octets);
                // The code of a stage exists once per stage of a panel, or once for both.
                let stages = if octets > 2 { 1 } else { 2 };
                // Per octet: two steps of two strips of every slab; in the slow path, one for each strip.
                let mma_sync = octets * (stages * 2 * 2 * slabs + 2);
                let mainloop = Self::mainloop(slabs, stages);
                // A barrier after all warps are done, and one after a block's sums are visible to other blocks. The
                // exchange tells the warp's lanes whether their block is the last.
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
    let kernels = kernels(&SM80);
    for kernel in sm80_ids() {
        if let Some(wanted) = Convergent::wanted(kernel.family()) {
            let name = kernel.name();
            assert_eq!(Convergent::count(kernels[name]), wanted, "{name}");
        }
    }
}

#[test]
fn nothing_is_in_local_memory() {
    for (name, body) in kernels(&SM80).into_iter().chain(kernels(&SM90)) {
        assert!(!body.contains(".local"), "{name} indexes registers");
    }
}

#[test]
fn bulk_copies_wait_for_what_they_overwrite() {
    for (name, body) in kernels(&SM90) {
        let copies: Vec<&str> =
            body.lines().filter(|line| line.contains("cp.async.bulk.shared")).collect();
        let is_lean = name.starts_with("matmul_") || name.starts_with("decode_");
        assert_eq!(copies.is_empty(), !is_lean, "{name}");
        for copy in &copies {
            assert!(copy.trim_start().starts_with("@one "), "{name}: {copy}");
        }
        // Each has a predicate of its own that depends on loads.
        let predicates = body.matches("and.pred one, one, always;").count();
        assert_eq!(predicates, copies.len(), "{name}");
    }
}
