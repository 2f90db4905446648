//! Markers, error bars and positions of labels.

use plotters::element::{DynElement, IntoDynElement, PathElement};
use plotters::prelude::*;

/// Half the width of a marker, in pixels.
const RADIUS: i32 = 5;
/// Smallest vertical distance between labels, in pixels.
const LINE_HEIGHT: i32 = 16;
/// Horizontal distance from which labels do not overlap, in pixels.
const LABEL_WIDTH: i32 = 130;

/// The shape of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
}

/// Returns a marker at `at`.
pub(super) fn marker<'a, B, C>(shape: Shape, at: C, color: RGBColor) -> DynElement<'a, B, C>
where
    B: DrawingBackend + 'a,
    C: Clone + 'a,
{
    let filled = color.filled();
    let polygon = |corners: &[(i32, i32)], at| {
        (EmptyElement::at(at) + Polygon::new(corners.to_vec(), filled)).into_dyn()
    };
    let stroke = |ends: [(i32, i32); 2]| PathElement::new(ends, color.stroke_width(2));
    let (r, s) = (RADIUS, RADIUS - 1);
    match shape {
        Shape::Circle => (EmptyElement::at(at) + Circle::new((0, 0), r, filled)).into_dyn(),
        Shape::Square => polygon(&[(-s, -s), (s, -s), (s, s), (-s, s)], at),
        Shape::Triangle => polygon(&[(0, -r - 1), (r + 1, s), (-r - 1, s)], at),
        Shape::Diamond => polygon(&[(0, -r - 1), (r + 1, 0), (0, r + 1), (-r - 1, 0)], at),
        Shape::Cross => {
            (EmptyElement::at(at) + stroke([(-s, -s), (s, s)]) + stroke([(-s, s), (s, -s)]))
                .into_dyn()
        }
    }
}

/// Returns an error bar from `low` to `high`.
pub(super) fn bar<'a, B, C>(low: C, high: C, color: RGBColor) -> [DynElement<'a, B, C>; 3]
where
    B: DrawingBackend + 'a,
    C: Clone + 'a,
    PathElement<C>: IntoDynElement<'a, B, C>,
{
    let cap = || PathElement::new([(-4, 0), (4, 0)], color);
    [
        PathElement::new([low.clone(), high.clone()], color).into_dyn(),
        (EmptyElement::at(low) + cap()).into_dyn(),
        (EmptyElement::at(high) + cap()).into_dyn(),
    ]
}

/// Returns how many pixels to move each point's label down, so that labels do not overlap.
pub(super) fn offsets(places: &[(i32, i32)]) -> Vec<i32> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|&i| places[i].1);
    let mut offsets = vec![0; places.len()];
    for (n, &i) in order.iter().enumerate() {
        let above = order[..n].iter().filter(|&&j| (places[i].0 - places[j].0).abs() < LABEL_WIDTH);
        let lowest = above.map(|&j| places[j].1 + offsets[j]).max();
        offsets[i] = lowest.map_or(0, |lowest| (lowest + LINE_HEIGHT - places[i].1).max(0));
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_overlap() {
        let places = [(100, 50), (110, 52), (400, 51), (105, 53), (100, 200)];
        let offsets = offsets(&places);
        assert_eq!(offsets, [0, 14, 0, 29, 0]);
    }
}
