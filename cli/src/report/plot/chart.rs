//! Content of a chart: arranges the tensors of a report into panels, rows and notes, without drawing anything.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use fused_rans::file::{Report, StoredAs, TensorReport, Totals};

use super::name::{self, Place};
use crate::report::text::size;

/// Smallest number of layers for a panel. Tensors of a kind with fewer layers are listed.
const MIN_LAYERS: usize = 3;

/// Largest number of panels. The kinds with the most weights get one.
const MAX_PANELS: usize = 48;

/// Largest number of rows in the list. The tensors with the most weights get one.
const MAX_LISTED: usize = 40;

/// Largest number of panels side by side.
const MAX_COLUMNS: usize = 4;

/// Everything that is drawn.
#[derive(Debug, PartialEq)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) subtitle: String,
    /// One section per format.
    pub(super) sections: Vec<Section>,
    /// The list: tensors without a layer number, and tensors of kinds with few layers.
    pub(super) rows: Vec<Row>,
    /// Lines below the chart: how to read it, and how much is not shown.
    pub(super) notes: Vec<String>,
}

/// All kinds of matrix of one format. Each format has axes of its own, so that one format does not flatten another's curves.
#[derive(Debug, PartialEq)]
pub(super) struct Section {
    pub(super) heading: &'static str,
    /// Lines of panels. The panels of a module share a line.
    pub(super) panels: Vec<Vec<Panel>>,
}

/// The curves of one kind of matrix over the layers.
#[derive(Debug, PartialEq)]
pub(super) struct Panel {
    pub(super) name: String,
    pub(super) mean: Bits,
    /// Layer number and mean of the layer's tensors, by layer.
    pub(super) points: Vec<(u32, Bits)>,
}

/// A tensor in the list.
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
    /// Returns the mean over all weights of `tensors`.
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    fn mean<'a>(tensors: impl Iterator<Item = &'a TensorReport> + Clone) -> Self {
        let weights = weights(tensors.clone()) as f64;
        let sum = |bits: fn(&TensorReport) -> f64| {
            tensors.clone().map(|tensor| bits(tensor) * tensor.weights as f64).sum::<f64>()
        };
        let stored = sum(|tensor| tensor.bits_per_weight) / weights;
        Self { stored, entropy: sum(|tensor| tensor.entropy_bits_per_weight) / weights }
    }
}

/// The tensors of one kind by layer. A layer with experts has several.
struct Group<'a> {
    kind: String,
    layers: BTreeMap<u32, Vec<&'a TensorReport>>,
}

impl<'a> Group<'a> {
    fn tensors(&self) -> impl Iterator<Item = &'a TensorReport> + Clone {
        self.layers.values().flatten().copied()
    }

    /// Returns the group's panel, titled `name`.
    fn panel(&self, name: &str) -> Panel {
        let point = |(&layer, tensors): (_, &Vec<_>)| (layer, Bits::mean(tensors.iter().copied()));
        Panel {
            name: name.to_owned(),
            mean: Bits::mean(self.tensors()),
            points: self.layers.iter().map(point).collect(),
        }
    }
}

impl Chart {
    /// Arranges the tensors of `report`, which describes the model at `path`.
    pub(super) fn new(report: &Report, path: &Path) -> Self {
        let shown: Vec<_> = report.tensors.iter().filter(|tensor| is_shown(tensor)).collect();
        let unshown = report.tensors.len() - shown.len();
        let (mut groups, mut rows) = grouped(&shown);
        let dropped = keep_largest(&mut groups, MAX_PANELS, |group| weights(group.tensors()));
        let small = dropped.iter().map(|group| group.tensors().count()).sum::<usize>()
            + keep_largest(&mut rows, MAX_LISTED, |tensor| tensor.weights).len();
        let pooled = groups.iter().any(|group| group.layers.values().any(|all| all.len() > 1));
        let row = |tensor: &TensorReport| Row {
            name: tensor.name.clone(),
            bits: Bits::mean([tensor].into_iter()),
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

/// Returns whether `tensor` is drawn. Empty tensors and raw vectors, such as norms and biases, would only hide the matrices.
fn is_shown(tensor: &TensorReport) -> bool {
    tensor.weights > 0 && (tensor.format != StoredAs::Raw || tensor.shape.len() > 1)
}

/// Splits `tensors` into groups with enough layers for a panel, ordered by module, and the rest, in the file's order.
fn grouped<'a>(tensors: &[&'a TensorReport]) -> (Vec<Group<'a>>, Vec<&'a TensorReport>) {
    let mut kinds = BTreeMap::<String, BTreeMap<u32, Vec<&TensorReport>>>::new();
    for tensor in tensors {
        let Place { kind, layer } = Place::parse(&tensor.name);
        if let Some(layer) = layer {
            kinds.entry(kind).or_default().entry(layer).or_default().push(tensor);
        }
    }
    kinds.retain(|_, layers| layers.len() >= MIN_LAYERS);
    let is_in_panel = |tensor: &TensorReport| {
        let Place { kind, layer } = Place::parse(&tensor.name);
        layer.is_some() && kinds.contains_key(&kind)
    };
    let rows = tensors.iter().copied().filter(|tensor| !is_in_panel(tensor)).collect();
    let groups = kinds.into_iter().map(|(kind, layers)| Group { kind, layers });
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by(|a, b| name::module(&a.kind).cmp(name::module(&b.kind)));
    (groups, rows)
}

/// Keeps the `limit` items with the most weights, in their order; returns the others.
fn keep_largest<T>(items: &mut Vec<T>, limit: usize, weights: impl Fn(&T) -> u64) -> Vec<T> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&index| Reverse(weights(&items[index])));
    let mut drop = vec![false; items.len()];
    order.iter().skip(limit).for_each(|&index| drop[index] = true);
    let mut drop = drop.into_iter();
    items.extract_if(.., |_| drop.next() == Some(true)).collect()
}

/// Returns the sections that have panels.
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

/// Returns the index of the section for a group: that of most of its weights.
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

/// Returns the line with the totals.
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

/// Returns the notes of a chart with or without `panels`, with several tensors per layer if `pooled`, without `small` tensors
/// for lack of space, and without `unshown` empty tensors and raw vectors.
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
    use std::sync::LazyLock;

    use super::*;

    fn tensor(name: &str, format: StoredAs, weights: u64, bits: f64) -> TensorReport {
        let mut report = any_matrix();
        report.name = name.to_owned();
        report.format = format;
        report.weights = weights;
        report.bits_per_weight = bits;
        report.entropy_bits_per_weight = bits / 2.0;
        report
    }

    /// Returns the report on a matrix. Reports can only be made by `inspect`.
    fn any_matrix() -> TensorReport {
        static REPORT: LazyLock<TensorReport> = LazyLock::new(|| {
            let header = r#"{"w":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}"#;
            let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 2]].concat();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            fused_rans::file::inspect(file.path()).unwrap().tensors.remove(0)
        });
        REPORT.clone()
    }

    fn chart(tensors: Vec<TensorReport>) -> Chart {
        Chart::new(&Report::new(tensors, 16, 4), Path::new("a/model"))
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
        // A name that equals the kind has no layer number.
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
