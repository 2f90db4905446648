//! Test cases of matrix multiplication, and the check of outputs against the product in F64 with a bound of the error.

use crate::{AnyGroups, Recipe, any_matrix};
use fused_rans::layout::{GROUP, GroupPlane};
use fused_rans::{Activations, Dtype, Epilogue, Float, Outputs};
use half::{bf16, f16};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Distribution of the activations of a case.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// N(0, 1).
    Gaussian,
    /// |N(0, 1)|: sums grow, and with them the accumulator's rounding errors.
    Positive,
    /// 95 % exact zeros, the rest Gaussian.
    Sparse,
    /// Magnitudes over the type's whole range.
    MixedRange,
    /// Every finite bit pattern with equal probability.
    AnyFinite,
    /// Gaussian, with a few NaNs and infinities.
    NonFinite,
}

impl Values {
    /// All distributions.
    pub const ALL: [Self; 6] = [
        Self::Gaussian,
        Self::Positive,
        Self::Sparse,
        Self::MixedRange,
        Self::AnyFinite,
        Self::NonFinite,
    ];

    /// Returns the bits of one activation in `dtype`, BF16 or F16.
    fn sample(self, dtype: Float, rng: &mut impl Rng) -> u16 {
        let normal: f32 = StandardNormal.sample(rng);
        let exponents = if dtype == Float::F16 { -24f32..15.9 } else { -133.0..127.9 };
        let value = match self {
            Self::Positive => normal.abs(),
            Self::Sparse if rng.random_range(0..20) != 0 => 0.0,
            Self::MixedRange => rng.random_range(exponents).exp2().copysign(normal),
            Self::NonFinite if rng.random_range(0..3000) == 0 => {
                [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][rng.random_range(0..3)]
            }
            Self::AnyFinite => return finite(dtype, rng.random()),
            _ => normal,
        };
        match dtype {
            Float::F16 => f16::from_f32(value).to_bits(),
            _ => bf16::from_f32(value).to_bits(),
        }
    }
}

/// Returns `bits`, but NaNs and infinities get the exponent below theirs.
fn finite(dtype: Float, bits: u16) -> u16 {
    let (exponent, lowest) = if dtype == Float::F16 { (0x7C00, 0x0400) } else { (0x7F80, 0x0080) };
    if bits & exponent == exponent { bits ^ lowest } else { bits }
}

/// A multiplication y = x Wᵀ with its epilogue. A failing test prints it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The weights, N x K.
    pub recipe: Recipe,
    /// Whether the weights, which are I8, have groups, and these zero points.
    pub groups: Option<GroupPlane>,
    /// Number of rows of activations, M.
    pub m: usize,
    /// Distribution of the activations.
    pub values: Values,
    /// Type of the activations, one that goes with the weights.
    pub x: Float,
    /// Row stride of x in elements.
    pub stride_x: usize,
    /// Number of bytes before x in its buffer.
    pub offset_x: usize,
    /// Type of the outputs, one that goes with the activations.
    pub y: Float,
    /// Row stride of y in elements.
    pub stride_y: usize,
    /// Number of bytes before y in its buffer.
    pub offset_y: usize,
    /// Whether outputs are scaled.
    pub scale: bool,
    /// Whether a bias is added.
    pub bias: bool,
    /// Seed of activations, scale and bias.
    pub seed: u64,
}

/// Generates any case.
pub fn any_case() -> impl Strategy<Value = Case> {
    let m = prop_oneof![
        prop::sample::select(vec![1usize, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65]),
        1usize..24,
    ];
    let gap = || prop_oneof![Just(0usize), 1usize..40];
    let places = (gap(), 0usize..17, gap(), 0usize..17);
    let types = (any::<bool>(), any::<bool>());
    let values = prop::sample::select(&Values::ALL[..]);
    let epilogue = (any::<bool>(), any::<bool>(), any::<u64>());
    (any_weights(), m, values, types, places, epilogue).prop_map(
        |((recipe, groups), m, values, (f16, f32), places, (scale, bias, seed))| {
            let x = activation_type(recipe.dtype, f16);
            let y = if f32 { Float::F32 } else { x };
            let (stride_x, stride_y) = (recipe.cols + places.0, recipe.rows + places.2);
            let (offset_x, offset_y) = (places.1, places.3);
            Case {
                recipe,
                groups,
                m,
                values,
                x,
                stride_x,
                offset_x,
                y,
                stride_y,
                offset_y,
                scale,
                bias,
                seed,
            }
        },
    )
}

/// Generates any matrix; in 1 of 4 cases integers with groups.
fn any_weights() -> impl Strategy<Value = (Recipe, Option<GroupPlane>)> {
    let zeros = prop::option::weighted(0.25, any::<bool>());
    (any_matrix(), zeros).prop_map(|(recipe, zeros)| match zeros {
        Some(zeros) => (Recipe { dtype: Dtype::I8, ..recipe }, Some(GroupPlane { zeros })),
        None => (recipe, None),
    })
}

/// Returns the type of activations for weights of type `weights`. `f16` chooses for weights that go with both types.
pub fn activation_type(weights: Dtype, f16: bool) -> Float {
    match weights {
        Dtype::Bf16 => Float::Bf16,
        Dtype::F16 => Float::F16,
        Dtype::F8E4M3 | Dtype::I8 => {
            if f16 {
                Float::F16
            } else {
                Float::Bf16
            }
        }
    }
}

/// Activations and epilogue of a case.
pub struct Inputs {
    /// The buffer of x: [`Case::offset_x`] bytes, then the rows. All bytes outside of rows are NaNs.
    pub x: Vec<u8>,
    scale: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Inputs {
    /// Returns the epilogue.
    pub fn epilogue(&self) -> Epilogue<'_> {
        Epilogue { scale: self.scale.as_deref(), bias: self.bias.as_deref() }
    }
}

/// Value of the bytes of y's buffer that must not be written.
const UNTOUCHED: u8 = 0xA5;

impl Case {
    /// Makes a case without groups, gaps, offsets and epilogue, with activations of type `x` and F32 outputs.
    pub fn plain(dtype: Dtype, x: Float, rows: usize, cols: usize, m: usize) -> Self {
        Self {
            recipe: Recipe { rows, cols, ..Recipe::gaussian(dtype) },
            groups: None,
            m,
            values: Values::Gaussian,
            x,
            stride_x: cols,
            offset_x: 0,
            y: Float::F32,
            stride_y: rows,
            offset_y: 0,
            scale: false,
            bias: false,
            seed: 2,
        }
    }

    /// Makes a [`Case::plain`] with the type of activations that goes with `dtype`.
    pub fn ordinary(dtype: Dtype, rows: usize, cols: usize, m: usize) -> Self {
        let x = activation_type(dtype, false);
        Self::plain(dtype, x, rows, cols, m)
    }

    /// Returns this case with offsets aligned to elements, which a GPU needs.
    pub fn aligned(&self) -> Self {
        let (x, y) = (self.x.byte_len(), self.y.byte_len());
        let (offset_x, offset_y) = (self.offset_x / x * x, self.offset_y / y * y);
        Self { offset_x, offset_y, ..self.clone() }
    }

    /// Returns the stored weights, row-major.
    pub fn weights(&self) -> Vec<u8> {
        if self.groups.is_some() { self.recipe.nibbles() } else { self.recipe.bytes() }
    }

    /// Returns scales and zero points, if the weights have groups.
    fn groups(&self) -> Option<AnyGroups> {
        let &Recipe { rows, cols, seed, .. } = &self.recipe;
        self.groups.map(|plane| AnyGroups::with_normal_scales(rows, cols, plane.zeros, seed))
    }

    /// Encodes the weights; returns `None` if the blob would not be smaller.
    pub fn blob(&self) -> Option<Vec<u8>> {
        let weights = self.weights();
        let job = self.recipe.job(&weights);
        match self.groups() {
            Some(groups) => job.with_groups(groups.groups()).encode(),
            None => job.encode(),
        }
    }

    /// Returns the dequantized weights, row-major.
    pub fn weight_numbers(&self) -> Vec<f64> {
        let (cols, numbers) =
            (self.recipe.cols, weight_numbers(self.recipe.dtype, &self.weights()));
        let Some(AnyGroups { scales, zeros }) = self.groups() else { return numbers };
        let number = |(at, integer)| {
            let group = at / cols * cols.div_ceil(GROUP) + at % cols / GROUP;
            let zero = zeros.as_ref().map_or(0.0, |zeros| f64::from(zeros[group]));
            f16::from_bits(scales[group]).to_f64() * (integer - zero)
        };
        numbers.into_iter().enumerate().map(number).collect()
    }

    /// Makes activations, scale and bias.
    pub fn inputs(&self) -> Inputs {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let Recipe { rows, cols, .. } = self.recipe;
        let mut x = vec![0xFF; self.offset_x + 2 * extent(self.m, cols, self.stride_x)];
        for row in x[self.offset_x..].chunks_mut(2 * self.stride_x) {
            for x in row[..2 * cols].chunks_exact_mut(2) {
                x.copy_from_slice(&self.values.sample(self.x, &mut rng).to_le_bytes());
            }
        }
        let mut numbers = |wanted: bool| {
            wanted.then(|| (0..rows).map(|_| epilogue_number(&mut rng)).collect::<Vec<f32>>())
        };
        Inputs { x, scale: numbers(self.scale), bias: numbers(self.bias) }
    }

    /// Describes the activations; `data` starts with the first one.
    pub fn activations<T>(&self, data: T) -> Activations<T> {
        Activations { data, dtype: self.x, rows: self.m, row_stride: self.stride_x }
    }

    /// Returns a buffer for y: [`Case::offset_y`] bytes, then room for the rows.
    pub fn output_buffer(&self) -> Vec<u8> {
        let elements = extent(self.m, self.recipe.rows, self.stride_y);
        vec![UNTOUCHED; self.offset_y + self.y.byte_len() * elements]
    }

    /// Describes the outputs; the first one is written to the start of `data`.
    pub fn outputs<T>(&self, data: T) -> Outputs<T> {
        Outputs { data, dtype: self.y, row_stride: self.stride_y }
    }

    /// Checks the buffer `y`: every output against the product of `weights`, N x K and dequantized, with `inputs`, and that no
    /// other byte was written.
    pub fn check(
        &self,
        weights: &[f64],
        inputs: &Inputs,
        accumulator: Accumulator,
        y: &[u8],
    ) -> Result<(), String> {
        self.check_bounded(weights, weights, inputs, accumulator, y)
    }

    /// Checks the buffer `y` as [`Case::check`] does, but bounds errors by the magnitudes in `bounds`, N x K, in place of the
    /// weights': for kernels that make a weight of larger terms, whose roundings are larger, too.
    pub fn check_bounded(
        &self,
        weights: &[f64],
        bounds: &[f64],
        inputs: &Inputs,
        accumulator: Accumulator,
        y: &[u8],
    ) -> Result<(), String> {
        let (before, y) = y.split_at(self.offset_y);
        let mut untouched = before.to_vec();
        let x = numbers(self.x, &inputs.x[self.offset_x..]);
        let bytes = self.y.byte_len();
        for m in 0..self.m {
            let x = &x[m * self.stride_x..][..self.recipe.cols];
            let row = &y[m * self.stride_y * bytes..];
            let (row, rest) = row.split_at(self.recipe.rows * bytes);
            let gap = (self.stride_y - self.recipe.rows) * bytes;
            untouched.extend(rest.iter().take(gap));
            let rows = weights.par_chunks_exact(x.len()).zip(bounds.par_chunks_exact(x.len()));
            let outputs = rows.zip(numbers(self.y, row)).enumerate();
            outputs.try_for_each(|(n, ((weights, bounds), found))| {
                let exact = Exact::new(weights, bounds, x, inputs, n);
                exact.check(accumulator, self.y, found).map_err(|why| format!("[{m}][{n}]: {why}"))
            })?;
        }
        match untouched.iter().all(|&byte| byte == UNTOUCHED) {
            true => Ok(()),
            false => Err("something was written between the rows".into()),
        }
    }
}

/// Returns the number of elements from the first row's first to the last row's last, gaps included.
fn extent(rows: usize, cols: usize, row_stride: usize) -> usize {
    (rows - 1) * row_stride + cols
}

/// Returns a scale or bias: of either sign, over six orders of magnitude, sometimes 0 or 1.
fn epilogue_number(rng: &mut impl Rng) -> f32 {
    let normal: f32 = StandardNormal.sample(rng);
    match rng.random_range(0..20) {
        0 => 0.0,
        1 => 1.0,
        _ => normal * 10f32.powf(rng.random_range(-3.0..3.0)),
    }
}

/// Converts the numbers in `stored` to F64.
pub fn numbers(dtype: Float, stored: &[u8]) -> Vec<f64> {
    match dtype {
        Float::Bf16 => weight_numbers(Dtype::Bf16, stored),
        Float::F16 => weight_numbers(Dtype::F16, stored),
        Float::F32 => {
            stored.as_chunks().0.iter().map(|&bits| f32::from_le_bytes(bits).into()).collect()
        }
        _ => unimplemented!("{dtype}"),
    }
}

/// Converts the weights in `stored` to F64.
pub fn weight_numbers(dtype: Dtype, stored: &[u8]) -> Vec<f64> {
    let wide = stored.as_chunks().0.iter();
    match dtype {
        Dtype::Bf16 => wide.map(|&bits| bf16::from_le_bytes(bits).to_f64()).collect(),
        Dtype::F16 => wide.map(|&bits| f16::from_le_bytes(bits).to_f64()).collect(),
        Dtype::F8E4M3 => stored.iter().map(|&bits| e4m3(bits)).collect(),
        Dtype::I8 => stored.iter().map(|&bits| f64::from(bits.cast_signed())).collect(),
    }
}

/// Converts e4m3 bits to a number. The two NaNs become +-480, as in the kernels.
fn e4m3(bits: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7) / 8.0);
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-6),
        _ => (1.0 + mantissa) * 2f64.powi(exponent - 7),
    };
    if bits >> 7 == 1 { -magnitude } else { magnitude }
}

/// Arithmetic of the sums of products, which bounds their errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulator {
    /// F64 for sums and epilogue.
    F64,
    /// F32 for sums, as in a tensor core, and epilogue.
    F32,
}

impl Accumulator {
    /// Returns the largest error of a sum, relative to the sum of its terms' magnitudes.
    const fn relative(self) -> f64 {
        match self {
            Self::F64 => 1e-12,
            Self::F32 => 4e-6,
        }
    }

    /// Returns the largest error of one operation, relative to its result.
    const fn rounding(self) -> f64 {
        match self {
            Self::F64 => f64::EPSILON / 2.0,
            Self::F32 => f32::EPSILON as f64 / 2.0,
        }
    }

    /// Returns the largest error of one operation whose result is subnormal.
    const fn underflow(self) -> f64 {
        match self {
            Self::F64 => 0.0,
            // 2^-149, its smallest number.
            Self::F32 => f32::MIN_POSITIVE as f64 * f32::EPSILON as f64,
        }
    }

    /// Returns the magnitude above which a partial result may be infinite.
    const fn overflow(self) -> f64 {
        match self {
            Self::F64 => f64::MAX,
            Self::F32 => f32::MAX as f64,
        }
    }
}

/// The exact value of an output, and the magnitudes that bound its error.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    /// `sum * scale + bias`.
    pub value: f64,
    /// Number of terms of the sum, K.
    pub terms: usize,
    /// The sum of |x||w| over all finite products, with the bound of w in place of w if there is one.
    pub magnitude: f64,
    /// |scale|.
    pub scale: f64,
    /// |bias|.
    pub bias: f64,
}

impl Exact {
    /// Computes output `n` from a row of weights, their bounds and a row of activations.
    fn new(weights: &[f64], bounds: &[f64], x: &[f64], inputs: &Inputs, n: usize) -> Self {
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for ((weight, bound), x) in weights.iter().zip(bounds).zip(x) {
            let (product, bound) = (weight * x, f64::abs(bound * x));
            sum += product;
            magnitude += if product.is_finite() { bound } else { 0.0 };
        }
        let scale = inputs.scale.as_ref().map_or(1.0, |scale| scale[n].into());
        let bias = inputs.bias.as_ref().map_or(0.0, |bias| bias[n].into());
        let value = sum * scale + bias;
        Self { value, terms: x.len(), magnitude, scale: f64::abs(scale), bias: f64::abs(bias) }
    }

    /// Checks an output of type `dtype`.
    ///
    /// The largest error e is that of the sum (in F32 4e-6 of the sum of |x||w||scale|) plus the roundings of the epilogue.
    /// The output must lie between the rounded `value - e` and `value + e`. NaN and infinities must be exact; where F32 can
    /// overflow on the way, any non-finite output passes.
    pub fn check(self, accumulator: Accumulator, dtype: Float, found: f64) -> Result<(), String> {
        let Self { value, terms, magnitude, scale, bias } = self;
        let scaled = magnitude * scale;
        // Sums of groups are scaled after they are added up, by no less than 2^-14.
        let largest = (magnitude * 2f64.powi(14)).max(scaled + bias);
        if !found.is_finite() && largest >= accumulator.overflow() {
            return Ok(());
        }
        let operations = accumulator.underflow() * (terms as f64 * scale + scale + 2.0);
        let error = accumulator.relative() * scaled
            + accumulator.rounding() * (scaled + value.abs())
            + operations;
        let (low, high) = (round(dtype, value - error), round(dtype, value + error));
        let fits = match value.is_finite() {
            true => low <= found && found <= high,
            false => found == value || value.is_nan() && found.is_nan(),
        };
        match fits {
            true => Ok(()),
            false => Err(format!("{found:e} is not in {low:e} ..= {high:e}; {self:?}")),
        }
    }
}

/// Rounds `value` to the nearest number of `dtype`, ties to even.
pub fn round(dtype: Float, value: f64) -> f64 {
    let (mantissa, lowest, highest) = match dtype {
        Float::Bf16 => (7, -126, 127),
        Float::F16 => (10, -14, 15),
        Float::F32 => (23, -126, 127),
        _ => unimplemented!("{dtype}"),
    };
    if !value.is_finite() {
        return value;
    }
    let exponent = (value.abs().to_bits() >> 52) as i32 - 1023;
    let step = 2f64.powi(exponent.max(lowest) - mantissa);
    let rounded = (value / step).round_ties_even() * step;
    let overflows = rounded.abs() >= 2f64.powi(highest + 1);
    if overflows { f64::INFINITY.copysign(value) } else { rounded }
}
