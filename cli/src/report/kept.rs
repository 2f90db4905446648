//! What a job left as it was, and why, in a few lines.

use fused_rans::file::{Kept, KeptReason, Summary};

use super::text::{printable, share};

/// Tensors that are named in a line; the others are counted.
const MAX_NAMED: usize = 3;

/// Characters of a name that are shown.
const MAX_NAME: usize = 200;

/// Share of the weights from which it is worth a line that they are stored as they are.
const SMALL: f64 = 0.001;

/// Share of the weights from which the line is a warning.
const LARGE: f64 = 0.1;

/// Returns a line for each reason for which tensors were kept: the largest share of the weights first. `all` lists
/// all tensors, and small shares, too.
pub(crate) fn kept_lines(summary: &Summary, all: bool) -> Vec<String> {
    let mut groups: Vec<(KeptReason, Vec<&Kept>)> = Vec::new();
    for kept in &summary.kept {
        match groups.iter_mut().find(|(reason, _)| *reason == kept.reason) {
            Some((_, tensors)) => tensors.push(kept),
            None => groups.push((kept.reason, vec![kept])),
        }
    }
    let weights = |tensors: &[&Kept]| tensors.iter().map(|kept| kept.weights).sum::<u64>();
    groups.sort_by_key(|(_, tensors)| std::cmp::Reverse(weights(tensors)));
    let has_nothing = summary.blobs == 0;
    let lines = groups.iter().filter_map(|(reason, tensors)| {
        let (part, whole) = (weights(tensors), summary.weights);
        let is_small = (part as f64) < SMALL * whole as f64;
        if reason.is_stored_as_it_is() && is_small && !all && !has_nothing {
            return None;
        }
        let is_large = part as f64 >= LARGE * whole as f64
            && !matches!(reason, KeptReason::Name | KeptReason::SideData);
        let warning =
            if is_large || *reason == KeptReason::TooSmall && !is_small { "warning: " } else { "" };
        let ((before, after), count) = (describe(*reason), tensors.len());
        let plural = if count == 1 { "" } else { "s" };
        let named = if all { count } else { MAX_NAMED };
        let names = listing(tensors.iter().map(|kept| kept.tensor.as_str()), named);
        let share = share(part, whole);
        Some(format!(
            "{warning}{before} {count} tensor{plural} {after}, {share} of the weights: {names}"
        ))
    });
    lines.collect()
}

/// Says what became of tensors that were kept for this reason: the words before and after "N tensors".
fn describe(reason: KeptReason) -> (&'static str, String) {
    match reason {
        KeptReason::Dtype(dtype) => ("stored as they are:", format!("of type {dtype}")),
        KeptReason::Dimensions(1) => ("stored as they are:", "of one dimension".to_owned()),
        KeptReason::Dimensions(count) => ("stored as they are:", format!("of {count} dimensions")),
        KeptReason::NotSmaller => {
            ("stored as they are:", "that would not become smaller".to_owned())
        }
        KeptReason::Codes(dtype) => ("not quantized:", format!("quantized before ({dtype})")),
        KeptReason::SideData => {
            ("not quantized:", "with scales or the like of weights quantized before".to_owned())
        }
        KeptReason::Name => ("left lossless by name:", "other than linear layers".to_owned()),
        KeptReason::TooSmall => ("stayed lossless:", "too small for the format".to_owned()),
        other => ("kept:", format!("because each {other}")),
    }
}

/// Lists the first `shown` of `names`, and counts the rest.
pub(crate) fn listing<'a>(names: impl ExactSizeIterator<Item = &'a str>, shown: usize) -> String {
    let more = names.len().saturating_sub(shown);
    let listed: Vec<String> = names.take(shown).map(shortened).collect();
    match more {
        0 => listed.join(", "),
        more => format!("{} and {more} more", listed.join(", ")),
    }
}

/// Returns a name without what would disturb a terminal, cut at [`MAX_NAME`] characters.
fn shortened(name: &str) -> String {
    let cut = name.char_indices().nth(MAX_NAME).map(|(at, _)| &name[..at]);
    cut.map_or_else(|| printable(name), |start| format!("{}...", printable(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_cut_short() {
        let names: Vec<String> = (0..5).map(|n| format!("{n}\n")).collect();
        let list = |count| listing(names[..count].iter().map(String::as_str), 3);
        assert_eq!(list(2), r"0\n, 1\n");
        assert_eq!(list(3), r"0\n, 1\n, 2\n");
        assert_eq!(list(5), r"0\n, 1\n, 2\n and 2 more");
    }
}
