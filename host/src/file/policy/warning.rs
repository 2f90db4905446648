//! What a job warns of.

use std::collections::BTreeMap;
use std::fmt;

use crate::file::policy::kept::{Kept, KeptReason};

/// An option of [`compress`](crate::file::compress) that has no effect on any tensor of the input, or a fault of the model
/// that does not matter to the job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Something is wrong with the model, though its files could be compressed one by one: the text of one of
    /// [`Model::faults`](crate::file::Model::faults).
    Model(String),
    /// No tensor is selected.
    NothingSelected,
    /// A quantizer was chosen, but no tensor is quantized. [`Summary::kept`](crate::file::Summary::kept) says why.
    Format,
    /// The rate is to be shared, but no tensor is quantized to a shared rate.
    ShareRate,
    /// Another number of weights per symbol than by default was chosen, but no integers are coded.
    WeightsPerSymbol,
    /// There is a calibration, but no tensor is quantized to a rate.
    Calibration,
    /// The calibration has moments for none of the tensors that are quantized to a rate.
    OtherCalibration,
    /// A rule's pattern, this one, is in the name of no selected tensor.
    Rule(String),
    /// A rule asks for a quantizer that cannot be applied to some tensors.
    RuleFormat {
        /// The rule's pattern.
        pattern: String,
        /// The first of these tensors.
        tensor: String,
        /// Why this one is not quantized.
        reason: KeptReason,
        /// Number of other tensors.
        more: usize,
    },
}

impl Warning {
    /// Returns a warning for each rule that asks for a quantizer where some tensors were kept nevertheless.
    #[cfg_attr(not(feature = "quantize"), expect(dead_code, reason = "there are no rules"))]
    pub(in crate::file) fn of_rules(kept: &[Kept]) -> impl Iterator<Item = Self> {
        let mut rules: BTreeMap<&str, (&Kept, usize)> = BTreeMap::new();
        for kept in kept {
            if let Some(pattern) = &kept.rule {
                rules.entry(pattern).and_modify(|(_, more)| *more += 1).or_insert((kept, 0));
            }
        }
        rules.into_iter().map(|(pattern, (kept, more))| Self::RuleFormat {
            pattern: pattern.to_owned(),
            tensor: kept.tensor.clone(),
            reason: kept.reason,
            more,
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(fault) => f.write_str(fault),
            Self::NothingSelected => f.write_str("no tensor is selected: all are stored as they are"),
            Self::Format => f.write_str("nothing is quantized"),
            Self::ShareRate => f.write_str(
                "sharing the rate has no effect: no tensor is quantized to a shared rate",
            ),
            Self::WeightsPerSymbol => {
                f.write_str("the number of weights per symbol has no effect: no integers are coded")
            }
            Self::Calibration => f.write_str(
                "the calibration has no effect: no tensor is quantized to a rate, and only rates use it",
            ),
            Self::OtherCalibration => f.write_str(
                "the calibration has no effect: it has moments for none of the tensors that are quantized to a rate",
            ),
            Self::Rule(name) => {
                write!(f, "the rule for `{name}` has no effect: this is in the name of no selected tensor")
            }
            Self::RuleFormat { pattern, tensor, reason, more } => {
                write!(f, "the rule for `{pattern}` asks for a quantizer, but {tensor} {reason}")?;
                match more {
                    0 => Ok(()),
                    1 => f.write_str("; one more tensor is not quantized, either"),
                    more => write!(f, "; {more} more tensors are not quantized, either"),
                }
            }
        }
    }
}
