//! What was asked for and changes nothing.

use std::fmt;

/// Something that [`Options`](super::Options) ask for and that has no effect on the tensors that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// [`Options::quantize`](super::Options::quantize), but no tensor is quantized: embeddings, norms and biases are
    /// not, unless that is asked for, nor is what is not selected.
    Format,
    /// [`Options::spread`](super::Options::spread), but there is no tensor that takes its share.
    Spread,
    /// A calibration, but no tensor is quantized to a rate.
    Calibration,
    /// A calibration that knows the inputs of none of the tensors that are quantized to a rate.
    OtherCalibration,
    /// A rule whose name, this one, is found in that of no selected tensor.
    Rule(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str(
                "nothing is quantized: no matrix is selected but embeddings, norms and biases, which have to be asked for",
            ),
            Self::Spread => f.write_str(
                "nothing is spread: no tensor is quantized to a rate that others share",
            ),
            Self::Calibration => f.write_str(
                "the calibration has no effect: no tensor is quantized to a rate, and only rates take it into account",
            ),
            Self::OtherCalibration => f.write_str(
                "the calibration has no effect: it knows none of the tensors that are quantized to a rate",
            ),
            Self::Rule(name) => {
                write!(f, "the rule for `{name}` has no effect: no selected tensor's name has this in it")
            }
        }
    }
}
