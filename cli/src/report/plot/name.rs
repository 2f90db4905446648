//! Names of tensors: finds layer number and kind of matrix, and shortens names to fit a chart.

use std::collections::BTreeSet;

use crate::report::text::printable;

/// Largest number of digits of a layer number. Longer numbers mean something else.
const MAX_DIGITS: usize = 5;

/// Kind and layer of a tensor, taken from its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The name without `.weight`, with `*` for the layer number and all other numbers between dots.
    pub(super) kind: String,
    /// The layer number, if the name has one.
    pub(super) layer: Option<u32>,
}

impl Place {
    /// Parses a name such as `model.layers.7.mlp.up_proj.weight`. The layer number is the first part that is a number; if no
    /// part is, it is the end of the first part like `layer_7`.
    pub(super) fn parse(name: &str) -> Self {
        let mut parts: Vec<&str> = name.split('.').collect();
        if parts.len() > 1 && parts.last() == Some(&"weight") {
            parts.pop();
        }
        if let Some(layer) = parts.iter().find_map(|part| counter(part)) {
            let stars = parts.iter().map(|part| if counter(part).is_some() { "*" } else { part });
            let kind = stars.collect::<Vec<_>>().join(".");
            return Self { kind, layer: Some(layer) };
        }
        let mut layer = None;
        let mut star = |part: &&str| match part.rsplit_once('_') {
            Some((word, number)) if layer.is_none() && counter(number).is_some() => {
                layer = counter(number);
                format!("{word}_*")
            }
            _ => (*part).to_owned(),
        };
        let kind = parts.iter().map(&mut star).collect::<Vec<_>>().join(".");
        Self { kind, layer }
    }
}

/// Returns the number that `part` consists of, if it is one.
fn counter(part: &str) -> Option<u32> {
    let digits = part.bytes().all(|byte| byte.is_ascii_digit());
    part.parse().ok().filter(|_| digits && part.len() <= MAX_DIGITS)
}

/// Returns the module of a kind of matrix: everything before its last dot.
pub(super) fn module(kind: &str) -> &str {
    kind.rsplit_once('.').map_or("", |(module, _)| module)
}

/// Shortens `kinds` by their common prefix and by the name of their list of layers: `model.encoder.layers.*.fc1` becomes
/// `encoder.fc1`. Keeps the list's name where names would become equal without it.
pub(super) fn short(kinds: &[&str]) -> Vec<String> {
    let prefix = common_prefix(kinds);
    let names = kinds.iter().map(|kind| {
        let layers = kind.find(".*.").filter(|&at| at > prefix);
        let Some((holder, rest)) = layers.map(|at| kind[prefix..].split_at(at - prefix)) else {
            return kind[prefix..].to_owned();
        };
        let holder = holder.rsplit_once('.').map_or("", |(above, _)| above);
        format!("{holder}{}", &rest[".*".len()..]).trim_start_matches('.').to_owned()
    });
    let names: Vec<String> = names.collect();
    let distinct = names.iter().collect::<BTreeSet<_>>().len() == kinds.len();
    if distinct { names } else { kinds.iter().map(|kind| kind[prefix..].to_owned()).collect() }
}

/// Returns the length in bytes of the longest prefix of whole parts that all names share. The last part never belongs to it.
fn common_prefix(names: &[&str]) -> usize {
    let Some((first, rest)) = names.split_first() else { return 0 };
    let ends = first.match_indices('.').map(|(at, _)| at + 1);
    let shared = |end: &usize| rest.iter().all(|name| name.starts_with(&first[..*end]));
    ends.take_while(shared).last().unwrap_or(0)
}

/// Returns `name` in at most `width` columns, without characters that XML or a terminal cannot show. Names that are too long
/// lose their middle, because both ends tell tensors apart.
pub(super) fn label(name: &str, width: usize) -> String {
    // XML forbids U+FFFE and U+FFFF, even escaped.
    let name = printable(name).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    if name.chars().map(columns).sum::<usize>() <= width {
        return name;
    }
    let keep = width.saturating_sub(1);
    let head = fitting(name.chars(), keep * 2 / 5);
    let tail = fitting(name.chars().rev(), keep - keep * 2 / 5);
    let tail: String = tail.chars().rev().collect();
    format!("{head}…{tail}")
}

/// Returns the first characters that fit into `width` columns.
fn fitting(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += columns(*c);
        used <= width
    };
    chars.take_while(fits).collect()
}

/// Returns the width of a character: 2 columns from U+1100 (Hangul) on, where most scripts are wide, else 1.
fn columns(c: char) -> usize {
    if c < '\u{1100}' { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> (String, Option<u32>) {
        let Place { kind, layer } = Place::parse(name);
        (kind, layer)
    }

    #[test]
    fn layers_and_kinds() {
        let cases = [
            ("model.layers.7.mlp.up_proj.weight", "model.layers.*.mlp.up_proj", Some(7)),
            ("h.11.attn.c_attn.weight", "h.*.attn.c_attn", Some(11)),
            ("layers.3.mlp.experts.15.w1.weight", "layers.*.mlp.experts.*.w1", Some(3)),
            ("decoder.layer_2.linear_1.weight", "decoder.layer_*.linear_1", Some(2)),
            ("a_1.blocks.4.w_2", "a_1.blocks.*.w_2", Some(4)),
            ("model.embed_tokens.weight", "model.embed_tokens", None),
            ("conv1.weight", "conv1", None),
            ("weight", "weight", None),
            ("", "", None),
            ("a.+1.b", "a.+1.b", None),
            ("a.123456.b", "a.123456.b", None),
            ("a.99999999999999999999.b_", "a.99999999999999999999.b_", None),
        ];
        for (name, kind, layer) in cases {
            assert_eq!(place(name), (kind.to_owned(), layer), "{name}");
        }
    }

    #[test]
    fn prefixes_are_whole_parts_and_leave_a_name() {
        assert_eq!(common_prefix(&[]), 0);
        assert_eq!(common_prefix(&["a.b.c"]), 4);
        assert_eq!(common_prefix(&["m.l.*.mlp.up", "m.l.*.mla.q"]), 6);
        assert_eq!(common_prefix(&["m.up", "n.up"]), 0);
        assert_eq!(common_prefix(&["a.b", "a.b.c"]), 2);
    }

    #[test]
    fn short_names_tell_kinds_apart() {
        let kinds = ["m.l.*.mlp.experts.*.up", "m.l.*.attn.q"];
        assert_eq!(short(&kinds), ["mlp.experts.*.up", "attn.q"]);
        let kinds = ["m.encoder.layers.*.fc1", "m.decoder.layers.*.fc1", "m.x_*.y", "m.h.*.z"];
        assert_eq!(short(&kinds), ["encoder.fc1", "decoder.fc1", "x_*.y", "z"]);
        let kinds = ["m.blocks.*.fc1", "m.layers.*.fc1"];
        assert_eq!(short(&kinds), ["blocks.*.fc1", "layers.*.fc1"]);
        assert_eq!(short(&["*.w", "*.v"]), ["w", "v"]);
        assert_eq!(short(&["*.w", "x.*.v"]), ["*.w", "v"]);
    }

    #[test]
    fn long_names_keep_both_ends_and_odd_characters_are_escaped() {
        assert_eq!(label("short", 5), "short");
        assert_eq!(label("0123456789ab", 11), "0123…6789ab");
        assert_eq!(label("層層層層層層", 7), "層…層層");
        assert_eq!(label("a\u{1}\u{ffff}<", 20), "a\\u{1}\u{fffd}<");
        assert_eq!(label("long", 0), "…");
    }
}
