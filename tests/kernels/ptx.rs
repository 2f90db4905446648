//! What must hold of the embedded PTX, whichever compiler made it.

use fused_rans::layout::slabs_at_once;
use std::collections::BTreeSet;

/// Rows of x that the kernels that multiply take, at most.
const BATCHES: [usize; 4] = [8, 16, 32, 64];

/// (name, body) of every kernel.
fn kernels() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rest = fused_rans::ptx().split(".visible .entry ").skip(1);
    rest.map(|rest| rest.split_once('(').expect("parameters"))
}

/// Weights, and the operands they become.
fn types() -> Vec<String> {
    let floats = ["bf16_bf16", "bf16_any_bf16", "f16_f16", "f16_any_f16"].map(str::to_owned);
    let integers = (0..=4).map(|bits| format!("i8_r{bits}"));
    let integers = integers.chain((2..=5).map(|bits| format!("i8_quads_r{bits}")));
    let others = ["f8", "i4", "i4_quads"].into_iter().map(str::to_owned).chain(integers);
    let others = others.flat_map(|weights| ["bf16", "f16"].map(|x| format!("{weights}_{x}")));
    floats.into_iter().chain(others).collect()
}

#[test]
fn there_is_a_kernel_for_every_type() {
    let decode =
        ["bf16", "f16", "f8_e4m3", "i8", "i8_quads"].map(|weights| format!("decode_{weights}"));
    let mut wanted = BTreeSet::from(decode);
    for types in types() {
        wanted.extend(BATCHES.map(|rows| format!("matmul_{types}_m{rows}")));
        wanted.insert(format!("fragments_{types}"));
    }
    let others = |name: &&str| !matches!(*name, "dense_bf16" | "dense_f16" | "checksum");
    let names: BTreeSet<_> =
        kernels().map(|(name, _)| name).filter(others).map(String::from).collect();
    assert_eq!(names, wanted);
}

/// How often instructions stand in a kernel that threads must come to together.
#[derive(Debug, PartialEq, Eq)]
struct Convergent {
    bar_sync: usize,
    bar_warp_sync: usize,
    vote_sync: usize,
    shfl_sync: usize,
    mma_sync: usize,
    /// Of any other kind.
    others: usize,
}

impl Convergent {
    fn of(body: &str) -> Self {
        let count = |instruction| body.matches(instruction).count();
        let [bar_sync, bar_warp_sync] = ["bar.sync", "bar.warp.sync"].map(count);
        let [vote_sync, shfl_sync, mma_sync] = ["vote.sync", "shfl.sync", "mma.sync"].map(count);
        let known = bar_sync + bar_warp_sync + vote_sync + shfl_sync + mma_sync;
        let others = count(".sync") - known;
        Self { bar_sync, bar_warp_sync, vote_sync, shfl_sync, mma_sync, others }
    }

    /// As the sources have them in a mainloop of `slabs` slabs at a time, in which so many half turns stand, but for
    /// what it multiplies with.
    fn mainloop(slabs: usize, halves: usize) -> Self {
        Self {
            // The table is there.
            bar_sync: 1,
            // Of a unit that could not be prepared early: its record, what it says, tail lengths, all. Of the next
            // one its record, what it says, for two. What half turns have waited for; nobody reads the words
            // any more.
            bar_warp_sync: 4 + 3 + halves + 1,
            // Which lanes have a word in a tail row, of a unit with all slabs and of one with one, both of these
            // two; whether all have taken their words.
            vote_sync: 2 * (slabs + 1) + 1,
            shfl_sync: 0,
            mma_sync: 0,
            others: 0,
        }
    }

    /// As the sources have them in a kernel of this name; `None` if it is not one that decodes.
    fn wanted(name: &str) -> Option<Self> {
        let none = Self {
            bar_sync: 0,
            bar_warp_sync: 0,
            vote_sync: 0,
            shfl_sync: 0,
            mma_sync: 0,
            others: 0,
        };
        // The table is there; the tile's record is, and the warp has stored its slab; which lanes have a word in a
        // tail row.
        let decode = Self { bar_sync: 1, bar_warp_sync: 2, vote_sync: 1, ..none };
        match name.split_once('_').unwrap_or((name, "")) {
            // The table is there; the warps' sums are, each of which five exchanges make.
            ("checksum", _) => Some(Self { bar_sync: 2, shfl_sync: 5, ..none }),
            ("decode", _) => Some(decode),
            ("fragments", _) => Some(Self::mainloop(2, 2)),
            ("matmul", types) => {
                let (_, rows) = types.rsplit_once("_m")?;
                let octets = rows.parse::<usize>().ok()? / 8;
                let slabs = slabs_at_once(octets);
                // Both halves of a turn, or one for both.
                let halves = if octets > 2 { 1 } else { 2 };
                // Two steps of two strips of every slab; by fragments, one for each strip.
                let mma_sync = octets * (halves * 2 * 2 * slabs + 2);
                let mainloop = Self::mainloop(slabs, halves);
                // All warps are done; a block's sums are there for others, and which one comes last.
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
    for (name, body) in kernels() {
        if let Some(wanted) = Convergent::wanted(name) {
            assert_eq!(Convergent::of(body), wanted, "{name}");
        }
    }
}

#[test]
fn nothing_is_kept_in_local_memory() {
    for (name, body) in kernels() {
        assert!(!body.contains(".local"), "{name} indexes registers");
    }
}
