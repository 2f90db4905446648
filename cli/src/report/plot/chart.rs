//! What a chart shows, before any of it is drawn.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use fused_rans::file::{Report, StoredAs, TensorReport, Totals};

use super::name::{self, Place};
use crate::report::text::size;

/// Layers that a kind of matrix needs for a panel of its own; with fewer, its tensors are listed.
const MIN_LAYERS: usize = 3;

/// Panels beyond which a chart is no overview. The largest are kept.
const MAX_PANELS: usize = 48;

/// The same for the list below them.
const MAX_WORD_ROWS: usize = 40;

/// Panels side by side.
pub(super) const MAX_COLUMNS: usize = 4;

/// All that is drawn.
#[derive(Debug, PartialEq)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) subtitle: String,
    /// By format.
    pub(super) sections: Vec<Section>,
    /// Tensors that belong to no panel: those without a layer, and all of a model of few layers.
    pub(super) rows: Vec<Row>,
    /// What the reader should know besides.
    pub(super) notes: Vec<String>,
}

/// The kinds of matrix of one format. They share an axis, which those of another would squash.
#[derive(Debug, PartialEq)]
pub(super) struct Section {
    pub(super) heading: &'static str,
    /// Those of one module stand side by side.
    pub(super) panels: Vec<Vec<Panel>>,
}

/// One kind of matrix, layer by layer.
#[derive(Debug, PartialEq)]
pub(super) struct Panel {
    pub(super) name: String,
    pub(super) mean: Bits,
    /// In the order of the layers.
    pub(super) points: Vec<(u32, Bits)>,
}

/// One tensor.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) bits: Bits,
}

/// Bits per weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bits {
    pub(super) stored: f64,
    pub(super) entropy: f64,
}

impl Bits {
    /// The mean of `tensors` by weights.
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    fn of<'a>(tensors: impl Iterator<Item = &'a TensorReport> + Clone) -> Self {
        let weights = weights(tensors.clone()) as f64;
        let sum = |bits: fn(&TensorReport) -> f64| {
            tensors.clone().map(|tensor| bits(tensor) * tensor.weights as f64).sum::<f64>()
        };
        let stored = sum(|tensor| tensor.bits_per_weight) / weights;
        Self { stored, entropy: sum(|tensor| tensor.entropy_bits_per_weight) / weights }
    }
}

/// The tensors of one kind, by layer: several where a layer has experts.
struct Group<'a> {
    kind: String,
    layers: BTreeMap<u32, Vec<&'a TensorReport>>,
}

impl<'a> Group<'a> {
    fn tensors(&self) -> impl Iterator<Item = &'a TensorReport> + Clone {
        self.layers.values().flatten().copied()
    }

    fn panel(&self, name: &str) -> Panel {
        let point = |(&layer, tensors): (_, &Vec<_>)| (layer, Bits::of(tensors.iter().copied()));
        Panel {
            name: name.to_owned(),
            mean: Bits::of(self.tensors()),
            points: self.layers.iter().map(point).collect(),
        }
    }
}

impl Chart {
    /// Arranges what is known of the model at `path`.
    pub(super) fn of(report: &Report, path: &Path) -> Self {
        let shown: Vec<_> = report.tensors.iter().filter(|tensor| is_shown(tensor)).collect();
        let unshown = report.tensors.len() - shown.len();
        let (mut groups, mut rows) = grouped(&shown);
        let dropped = keep_largest(&mut groups, MAX_PANELS, |group| weights(group.tensors()));
        let small = dropped.iter().map(|group| group.tensors().count()).sum::<usize>()
            + keep_largest(&mut rows, MAX_WORD_ROWS, |tensor| tensor.weights).len();
        let pooled = groups.iter().any(|group| group.layers.values().any(|all| all.len() > 1));
        let row = |tensor: &TensorReport| Row {
            name: tensor.name.clone(),
            bits: Bits::of([tensor].into_iter()),
        };
        Self {
            title: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            subtitle: subtitle(&report.totals),
            sections: sections(&groups),
            rows: rows.into_iter().map(row).collect(),
            notes: notes(!groups.is_empty(), pooled, small, unshown),
        }
    }
}

/// Norms and biases that are stored as they are would hide the matrices.
fn is_shown(tensor: &TensorReport) -> bool {
    tensor.weights > 0 && (tensor.format != StoredAs::Raw || tensor.shape.len() > 1)
}

/// What has enough layers for a panel, by kind, and the rest in the file's order.
fn grouped<'a>(tensors: &[&'a TensorReport]) -> (Vec<Group<'a>>, Vec<&'a TensorReport>) {
    let mut kinds = BTreeMap::<String, BTreeMap<u32, Vec<&TensorReport>>>::new();
    for tensor in tensors {
        let Place { kind, layer } = Place::of(&tensor.name);
        if let Some(layer) = layer {
            kinds.entry(kind).or_default().entry(layer).or_default().push(tensor);
        }
    }
    kinds.retain(|_, layers| layers.len() >= MIN_LAYERS);
    let is_in_panel = |tensor: &TensorReport| {
        let Place { kind, layer } = Place::of(&tensor.name);
        layer.is_some() && kinds.contains_key(&kind)
    };
    let rows = tensors.iter().copied().filter(|tensor| !is_in_panel(tensor)).collect();
    let groups = kinds.into_iter().map(|(kind, layers)| Group { kind, layers });
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by(|a, b| name::module(&a.kind).cmp(name::module(&b.kind)));
    (groups, rows)
}

/// Takes all but the `limit` largest out of `items`, whose order stays.
fn keep_largest<T>(items: &mut Vec<T>, limit: usize, weights: impl Fn(&T) -> u64) -> Vec<T> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&index| Reverse(weights(&items[index])));
    let mut drop = vec![false; items.len()];
    order.iter().skip(limit).for_each(|&index| drop[index] = true);
    let mut drop = drop.into_iter();
    items.extract_if(.., |_| drop.next() == Some(true)).collect()
}

fn sections(groups: &[Group<'_>]) -> Vec<Section> {
    let kinds: Vec<&str> = groups.iter().map(|group| group.kind.as_str()).collect();
    let names = name::short(&kinds);
    let headings = ["Quantized, by layer", "Lossless, by layer", "Not compressed, by layer"];
    let section = |(index, heading)| {
        let mut panels: Vec<Vec<Panel>> = Vec::new();
        let mut module = None;
        let its_groups = groups.iter().zip(&names).filter(|(group, _)| section_of(group) == index);
        for (group, name) in its_groups {
            let its_module = Some(name::module(&group.kind));
            match panels.last_mut() {
                Some(line) if module == its_module && line.len() < MAX_COLUMNS => {
                    line.push(group.panel(name));
                }
                _ => panels.push(vec![group.panel(name)]),
            }
            module = its_module;
        }
        Section { heading, panels }
    };
    let sections = headings.into_iter().enumerate().map(section);
    sections.filter(|section| !section.panels.is_empty()).collect()
}

/// The section of most of a group's weights.
fn section_of(group: &Group<'_>) -> usize {
    let mut sums = [0_u64; 3];
    for tensor in group.tensors() {
        let section = match tensor.format {
            StoredAs::Quantized => 0,
            StoredAs::Lossless => 1,
            _ => 2,
        };
        sums[section] += tensor.weights;
    }
    (0..sums.len()).max_by_key(|&section| sums[section]).unwrap_or(0)
}

fn weights<'a>(tensors: impl Iterator<Item = &'a TensorReport>) -> u64 {
    tensors.map(|tensor| tensor.weights).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn subtitle(totals: &Totals) -> String {
    let Totals { weights, original_bytes, stored_bytes, bits_per_weight, .. } = *totals;
    let entropy = totals.entropy_bits_per_weight;
    let bits = match weights {
        0 => "no weights".to_owned(),
        _ => format!("{bits_per_weight:.3} bits per weight (entropy {entropy:.3})"),
    };
    if stored_bytes == original_bytes {
        return format!("{bits}, {}, not compressed", size(stored_bytes));
    }
    let percent = 100.0 * stored_bytes as f64 / original_bytes as f64;
    format!("{bits}, {} of {} ({percent:.1} %)", size(stored_bytes), size(original_bytes))
}

fn notes(panels: bool, pooled: bool, small: usize, unshown: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if panels {
        notes.push("The numbers above a panel are means over its weights.".to_owned());
    }
    if pooled {
        notes
            .push("Where a layer has several tensors of a kind, a point is their mean.".to_owned());
    }
    if small > 0 {
        notes.push(format!("Not shown: the smallest tensors, {small} of them."));
    }
    match unshown {
        0 => {}
        1 => notes.push("Not shown: 1 tensor, empty or a vector stored as it is.".to_owned()),
        _ => notes
            .push(format!("Not shown: {unshown} tensors, empty or vectors stored as they are.")),
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, format: StoredAs, weights: u64, bits: f64) -> TensorReport {
        TensorReport {
            name: name.to_owned(),
            shape: vec![1, 1],
            dtype: "BF16".to_owned(),
            format,
            weights,
            stored_bytes: 0,
            bits_per_weight: bits,
            entropy_bits_per_weight: bits / 2.0,
            exceptions: 0,
            coding: None,
        }
    }

    fn chart(tensors: Vec<TensorReport>) -> Chart {
        let totals = Totals {
            weights: 8,
            original_bytes: 16,
            stored_bytes: 4,
            bits_per_weight: 4.0,
            entropy_bits_per_weight: 3.0,
            exceptions: 0,
        };
        Chart::of(&Report { tensors, totals }, Path::new("a/model"))
    }

    fn layers(kind: &str, format: StoredAs) -> impl Iterator<Item = TensorReport> {
        [10, 2, 0].map(|layer| tensor(&format!("l.{layer}.{kind}"), format, 1, 8.0)).into_iter()
    }

    #[test]
    fn sections_are_formats_lines_are_modules() {
        let kinds = ["m.b", "a.q", "a.x.y", "a.k", "m.c", "m.d", "m.e", "m.f"];
        let quantized = kinds.into_iter().flat_map(|kind| layers(kind, StoredAs::Quantized));
        let chart = chart(quantized.chain(layers("m.gate", StoredAs::Raw)).collect());
        let names = |section: &Section| -> Vec<Vec<String>> {
            let line = |line: &Vec<Panel>| line.iter().map(|panel| panel.name.clone()).collect();
            section.panels.iter().map(line).collect()
        };
        let [quantized, raw] = &chart.sections[..] else { panic!("{chart:?}") };
        let lines = [&["a.k", "a.q"][..], &["a.x.y"], &["m.b", "m.c", "m.d", "m.e"], &["m.f"]];
        assert_eq!(names(quantized), lines);
        assert_eq!(names(raw), [["m.gate"]]);
        assert_eq!(raw.heading, "Not compressed, by layer");
        let layers = quantized.panels[0][0].points.iter().map(|(layer, _)| *layer);
        assert_eq!(layers.collect::<Vec<_>>(), [0, 2, 10]);
        assert!(chart.rows.is_empty());
        assert_eq!((&*chart.title, chart.subtitle.contains("(25.0 %)")), ("model", true));
    }

    #[test]
    fn experts_are_pooled_by_weights() {
        let mut tensors: Vec<_> = layers("x.0.w", StoredAs::Lossless).collect();
        // The name of the kind itself: of no layer.
        tensors.push(tensor("l.*.x.*.w", StoredAs::Lossless, 1, 1.0));
        tensors.push(tensor("l.2.x.1.w", StoredAs::Lossless, 3, 4.0));
        let chart = chart(tensors);
        let panel = &chart.sections[0].panels[0][0];
        assert_eq!(panel.points[1], (2, Bits { stored: 5.0, entropy: 2.5 }));
        assert_eq!(panel.mean, Bits { stored: 6.0, entropy: 3.0 });
        assert_eq!(chart.rows.len(), 1);
        assert!(chart.notes.iter().any(|note| note.contains("several tensors")));
    }

    #[test]
    fn few_layers_are_listed_in_the_order_of_the_file() {
        let names = ["l.1.b", "l.0.b", "emb", "l.0.a"];
        let tensors = names.map(|name| tensor(name, StoredAs::Lossless, 1, 4.0));
        let chart = chart(tensors.to_vec());
        assert!(chart.sections.is_empty() && chart.notes.is_empty());
        assert!(chart.rows.iter().map(|row| row.name.as_str()).eq(names));
    }

    #[test]
    fn the_largest_are_kept_in_order() {
        let mut items = vec![5, 1, 7, 1, 6];
        assert_eq!(keep_largest(&mut items, 3, |&item| item), [1, 1]);
        assert_eq!(items, [5, 7, 6]);
        assert_eq!(keep_largest(&mut items, 3, |&item| item), [0; 0]);
    }
}
