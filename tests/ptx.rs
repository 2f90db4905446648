//! What must hold of the embedded PTX, whichever compiler made it.

use std::collections::BTreeSet;

/// Rows of x that the kernels that multiply take, at most.
const BATCHES: [usize; 4] = [8, 16, 32, 64];

/// Instructions `mma.sync` for 8 rows of x: a turn's two half turns of two steps of two strips, with and
/// without exceptions; by fragments, one for each strip.
const MMA_OF_A_TILE: usize = 2 * (2 * 2 * 2) + 2;

/// (name, body) of every kernel.
fn kernels() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rest = fused_rans::ptx().split(".visible .entry ").skip(1);
    rest.map(|rest| rest.split_once('(').expect("parameters"))
}

/// Weights, and the operands they become.
fn types() -> Vec<String> {
    let floats = ["bf16_bf16", "bf16_any_bf16", "f16_f16", "f16_any_f16"].map(str::to_owned);
    let others = ["f8", "i4", "i8_r0", "i8_r1", "i8_r2", "i8_r3", "i8_r4"].into_iter();
    let others = others.flat_map(|weights| ["bf16", "f16"].map(|x| format!("{weights}_{x}")));
    floats.into_iter().chain(others).collect()
}

#[test]
fn there_is_a_kernel_for_every_type() {
    let decode = ["bf16", "f16", "f8_e4m3", "i8"].map(|weights| format!("decode_{weights}"));
    let mut wanted = BTreeSet::from(decode);
    for types in types() {
        wanted.extend(BATCHES.map(|rows| format!("matmul_{types}_m{rows}")));
        wanted.insert(format!("fragments_{types}"));
    }
    let others = |name: &&str| !matches!(*name, "dense_bf16" | "dense_f16");
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
        // The table is there; the warp has stored its slab; which lanes have a word in a tail row.
        let decode = Self { bar_sync: 1, bar_warp_sync: 1, vote_sync: 1, ..none };
        // A slab's words are there; the warp is done with its only buffer. Tail rows are those of the
        // first slab, and of the next one in each way through a slab: in turns, by fragments, where
        // there is none, and with one buffer.
        let fragments = Self { bar_warp_sync: 2, vote_sync: 5, ..decode };
        match name.split_once('_')? {
            ("decode", _) => Some(decode),
            ("fragments", _) => Some(fragments),
            ("matmul", types) => {
                let (_, rows) = types.rsplit_once("_m")?;
                let mma_sync = MMA_OF_A_TILE * (rows.parse::<usize>().ok()? / 8);
                // Sums are there for other warps, and which one comes last.
                Some(Self { bar_warp_sync: 3, shfl_sync: 1, mma_sync, ..fragments })
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
