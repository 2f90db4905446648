//! What must hold of the embedded PTX, whichever compiler made it.

use fused_rans::PTX;

/// (name, body) of every kernel.
fn kernels() -> impl Iterator<Item = (&'static str, &'static str)> {
    PTX.split(".visible .entry ").skip(1).map(|rest| rest.split_once('(').expect("parameters"))
}

#[test]
fn there_is_a_decode_kernel_for_every_type() {
    let mut names: Vec<&str> = kernels().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["decode_bf16", "decode_f16", "decode_f8_e4m3", "decode_i8"]);
}

#[test]
fn what_waits_for_other_threads_was_not_copied_into_branches() {
    for (name, body) in kernels() {
        let count = |instruction| body.matches(instruction).count();
        assert_eq!(count("bar.sync"), 2, "{name}: one before, one after decoding");
        // Two exchanges a fragment, four fragments a turn, with and without edges.
        assert_eq!(count("shfl.sync"), 16, "{name}");
        assert_eq!(count("redux.sync"), 2, "{name}");
    }
}

#[test]
fn nothing_is_kept_in_local_memory() {
    for (name, body) in kernels() {
        assert!(!body.contains(".local"), "{name} indexes registers");
    }
}
