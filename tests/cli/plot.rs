//! The chart that `inspect --plot` draws.

use std::fs;
use std::process::Output;

use crate::place::{Place, SAMPLE};
use roxmltree::{Document, Node};
use serde_json::{Map, Value, json};

/// Colors of the marks for stored bits and entropy.
const STORED: &str = "#0072B2";
const ENTROPY: &str = "#C85200";

/// Name and shape of a tensor.
type Tensor<'a> = (&'a str, &'a [usize]);

impl Place {
    /// Writes the file `in` with these BF16 tensors.
    fn model(&self, tensors: &[Tensor<'_>]) {
        let (mut header, mut data) = (Map::new(), Vec::<u8>::new());
        for (name, shape) in tensors {
            let start = data.len();
            // Exponents from 2^-7 to 1, unevenly distributed, so that compression makes them smaller.
            let weight = |i: usize| {
                let bits = (i + start).wrapping_mul(2_654_435_761);
                let exponent = 127 - (bits >> 20 & 0xff).leading_zeros() as usize % 8;
                ((exponent << 7 | bits >> 9 & 0x7f) as u16).to_le_bytes()
            };
            data.extend((0..shape.iter().product()).flat_map(weight));
            let tensor =
                json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, data.len()] });
            assert!(header.insert((*name).to_owned(), tensor).is_none());
        }
        let header = Value::from(header).to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(self.path("in"), [&length, header.as_bytes(), &data].concat()).unwrap();
    }

    /// Runs the program and checks that it fails with status `code` and a message that contains `what`.
    fn exits_with(&self, args: &[&str], code: i32, what: &str) {
        let Output { status, stdout, stderr } = self.run(args);
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stdout.is_empty() && stderr.contains(what), "{args:?}: {stderr}");
    }

    /// Draws `file`; returns the SVG text.
    fn plot(&self, file: &str) -> String {
        self.ok(&["inspect", file, "--plot", "plot.svg"]);
        fs::read_to_string(self.path("plot.svg")).unwrap()
    }
}

fn elements<'a>(picture: &'a Document<'a>, tag: &str) -> Vec<Node<'a, 'a>> {
    picture.descendants().filter(|node| node.has_tag_name(tag)).collect()
}

fn texts<'a>(picture: &'a Document<'a>) -> Vec<&'a str> {
    elements(picture, "text").iter().map(|node| node.text().unwrap().trim_matches('\n')).collect()
}

fn number(node: Node<'_, '_>, attribute: &str) -> f64 {
    node.attribute(attribute).unwrap().parse().unwrap()
}

/// Returns the centers of the marks of a color, without the legend's.
fn marks(picture: &Document<'_>, fill: &str, stroke: &str) -> Vec<(f64, f64)> {
    let circles = elements(picture, "circle").into_iter();
    let of_color = circles.filter(|circle| {
        circle.attribute("fill") == Some(fill) && circle.attribute("stroke") == Some(stroke)
    });
    of_color.skip(1).map(|circle| (number(circle, "cx"), number(circle, "cy"))).collect()
}

/// Returns the points of each line of a color, without the legend's.
fn curves(picture: &Document<'_>, stroke: &str) -> Vec<Vec<(f64, f64)>> {
    let lines = elements(picture, "polyline").into_iter();
    let of_color = lines.filter(|line| line.attribute("stroke") == Some(stroke));
    let point = |point: &str| {
        let (x, y) = point.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    let points = |line: Node<'_, '_>| {
        line.attribute("points").unwrap().split_whitespace().map(point).collect()
    };
    of_color.skip(1).map(points).collect()
}

/// Writes a model of four layers, of two matrices and a norm each, and an embedding.
fn four_layers(place: &Place) {
    let names: Vec<_> = (0..4)
        .flat_map(|layer| {
            [("attn.q_proj", vec![64, 64]), ("mlp.up_proj", vec![128, 64]), ("norm", vec![64])]
                .map(|(kind, shape)| (format!("model.layers.{layer}.{kind}.weight"), shape))
        })
        .collect();
    let mut tensors: Vec<_> =
        names.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    tensors.push(("model.embed.weight", &[64, 64]));
    place.model(&tensors);
}

#[test]
fn kinds_of_matrix_are_drawn_by_layer_and_the_rest_is_listed() {
    let place = Place::empty();
    four_layers(&place);
    place.ok(&["compress", "in", "-o", "out", "--format", "int4", "--exclude", r"\.2\.attn"]);
    let svg = place.plot("out");
    let picture = Document::parse(&svg).unwrap();
    let texts = texts(&picture);
    for text in ["out", "Quantized, by layer", "attn.q_proj", "mlp.up_proj", "Other tensors"] {
        assert_eq!(texts.iter().filter(|t| **t == text).count(), 1, "{text} in {texts:?}");
    }
    assert!(texts.contains(&"model.embed.weight"), "{texts:?}");
    assert!(texts.contains(&"Not shown: 4 tensors, empty or vectors stored as they are."));
    assert_eq!(marks(&picture, STORED, "none").len(), 9);
    assert_eq!(marks(&picture, "none", ENTROPY).len(), 9);
    for color in [STORED, ENTROPY] {
        let curves = curves(&picture, color);
        assert_eq!(curves.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        let [attention, mlp] = curves.try_into().unwrap();
        // The excluded layer takes the most bits; y grows downwards.
        let highest = (0..4).min_by(|&a, &b| attention[a].1.total_cmp(&attention[b].1));
        assert_eq!(highest, Some(2));
        assert!(attention.iter().chain(&mlp).all(|(_, y)| *y >= attention[2].1));
        assert!(attention.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}

/// Compares the marks' positions with the axis and with the numbers beside them.
#[test]
fn dots_are_drawn_at_their_values() {
    let place = Place::empty();
    fs::copy(SAMPLE, place.path("in")).unwrap();
    place.ok(&["compress", "in", "-o", "out"]);
    let svg = place.plot("out");
    let picture = Document::parse(&svg).unwrap();
    let numbers = |anchor, color| -> Vec<(f64, f64)> {
        let texts = elements(&picture, "text").into_iter().filter(|text| {
            text.attribute("text-anchor") == Some(anchor) && text.attribute("fill") == Some(color)
        });
        let number = |text: Node<'_, '_>| {
            Some((text.text()?.trim().parse::<f64>().ok()?, number(text, "x")))
        };
        texts.filter_map(number).collect()
    };
    let ticks = numbers("middle", "#666666");
    let ((first, left), (last, right)) = (ticks[0], ticks[ticks.len() - 1]);
    for (color, fill, stroke) in [(STORED, STORED, "none"), (ENTROPY, "none", ENTROPY)] {
        let (numbers, marks) = (numbers("end", color), marks(&picture, fill, stroke));
        assert_eq!((numbers.len(), marks.len()), (2, 2));
        for ((bits, _), (x, _)) in numbers.into_iter().zip(marks) {
            let expected = left + (right - left) * (bits - first) / (last - first);
            assert!((x - expected).abs() < 1.5, "{bits} at {x}, not at {expected}");
        }
    }
}

#[test]
fn names_of_any_kind_make_valid_files() {
    let place = Place::empty();
    let odd = "a<b>&\"c'.\u{1}\u{7f}\u{fffe}]]>é層";
    place.model(&[(odd, &[8, 8]), (&"<".repeat(100), &[8, 8])]);
    let svg = place.plot("in");
    let picture = Document::parse(&svg).unwrap();
    let texts = texts(&picture);
    assert!(texts.contains(&"a<b>&\"c'.\\u{1}\\u{7f}\u{fffd}]]>é層"), "{texts:?}");
    assert!(texts.iter().any(|text| text.starts_with("<<<") && text.contains('…')), "{texts:?}");
    assert_eq!(svg, place.plot("in"));
}

#[test]
fn models_with_little_or_nothing_to_draw() {
    let place = Place::empty();
    let cases: [(&[Tensor<'_>], &str); 5] = [
        (&[], "Nothing to show: no compressed tensor and no matrix with weights."),
        (
            &[("z", &[0, 4]), ("v", &[9])],
            "Not shown: 2 tensors, empty or vectors stored as they are.",
        ),
        (&[("z", &[0, 4])], "Not shown: 1 tensor, empty or a vector stored as it is."),
        (&[("z", &[0, 4])], "no weights, 65 bytes, not compressed"),
        (&[("only", &[4, 4])], "only"),
    ];
    for (tensors, text) in cases {
        place.model(tensors);
        let svg = place.plot("in");
        let picture = Document::parse(&svg).unwrap();
        assert!(texts(&picture).contains(&text), "{text}: {svg}");
        let weights = usize::from(text == "only");
        assert_eq!(marks(&picture, STORED, "none").len(), weights);
    }
}

#[test]
fn of_many_tensors_the_largest_are_listed() {
    let place = Place::empty();
    let names: Vec<String> =
        ('a'..='z').flat_map(|c| ['x', 'y'].map(|d| format!("{c}{d}"))).collect();
    let shape = |name: &str| if name.ends_with('x') { [8, 8] } else { [4, 4] };
    let shapes: Vec<_> = names.iter().map(|name| shape(name)).collect();
    let tensors = names.iter().zip(&shapes).map(|(name, shape)| (name.as_str(), &shape[..]));
    place.model(&tensors.collect::<Vec<_>>());
    let svg = place.plot("in");
    let picture = Document::parse(&svg).unwrap();
    let texts = texts(&picture);
    assert!(
        names.iter().filter(|name| name.ends_with('x')).all(|name| texts.contains(&name.as_str()))
    );
    assert!(texts.contains(&"Not shown: the smallest tensors, 12 of them."), "{texts:?}");
    assert_eq!(marks(&picture, STORED, "none").len(), 40);
}

#[test]
fn what_is_printed_stays_and_an_old_chart_is_replaced() {
    let place = Place::empty();
    four_layers(&place);
    fs::write(place.path("plot.svg"), "old").unwrap();
    let drawn = place.ok(&["inspect", "in", "--json", "--plot", "plot.svg"]);
    assert_eq!(drawn, place.ok(&["inspect", "in", "--json"]));
    let drawn = place.ok(&["inspect", "in", "--plot", "./other.SVG"]);
    assert_eq!(drawn, place.ok(&["inspect", "in"]));
    let [plot, other] = ["plot.svg", "other.SVG"].map(|name| fs::read(place.path(name)).unwrap());
    assert!(plot.starts_with(b"<svg ") && plot == other);
    assert_eq!(place.names(), ["in", "other.SVG", "plot.svg"]);
}

#[cfg(unix)]
#[test]
fn charts_are_as_readable_as_other_files() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::empty();
    place.model(&[]);
    place.plot("in");
    let mode = |name| fs::metadata(place.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("plot.svg"), mode("in"));
}

#[test]
fn failures_leave_nothing_behind() {
    let place = Place::empty();
    four_layers(&place);
    fs::copy(place.path("in"), place.path("in.svg")).unwrap();
    fs::create_dir(place.path("folder.svg")).unwrap();
    fs::write(place.path("damaged"), "no header").unwrap();
    place.exits_with(&["inspect", "in", "--plot", "in"], 2, "the file name must end in .svg");
    place.exits_with(
        &["inspect", "in.svg", "--plot", "./in.svg"],
        1,
        "the output is the input file",
    );
    place.exits_with(
        &["inspect", "in", "--plot", "folder.svg"],
        1,
        "folder.svg: not a regular file",
    );
    place.exits_with(&["inspect", "in", "--plot", "no/a.svg"], 1, "no/a.svg: cannot write: ");
    place.exits_with(&["inspect", "damaged", "--plot", "a.svg"], 1, "damaged: ");
    place.exits_with(&["inspect", "missing", "--plot", "a.svg"], 1, "missing: ");
    assert_eq!(place.names(), ["damaged", "folder.svg", "in", "in.svg"]);
    assert_eq!(fs::read(place.path("in")).unwrap(), fs::read(place.path("in.svg")).unwrap());
}
