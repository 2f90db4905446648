//! Rules for single layers, as TOML.

use crate::WeightsPerSymbol;
use crate::file::policy::options::Target;
use crate::layout::Split;
use crate::quantize::QuantizeError;
use regex::Regex;
use serde::Deserialize;

/// Rules for the tensors of a model, by their names.
///
/// ```
/// # use fused_rans_host::file::Rules;
/// Rules::parse(r#"
///     [[layer]]
///     name = "down_proj"        # a regular expression, to be found in the name
///     weight = 2.0              # what its error counts where a rate is spread over all layers; others: 1
///
///     [[layer]]
///     name = '\.(0|29)\.'
///     format = "rate=6"         # `raw`, `lossless`, or a quantizer as in the command line
///     raw_bits = 3              # of integers: those that are not coded
///     weights_per_symbol = 4    # of integers: 2 or 4
/// "#)?;
/// # Ok::<(), fused_rans_host::file::RulesError>(())
/// ```
///
/// Of several rules that speak of a tensor the last one counts, for each key by itself.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<(Regex, Rule)>);

/// What rules say of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::file) struct Rule {
    pub(in crate::file) format: Option<Target>,
    pub(in crate::file) weight: Option<f64>,
    pub(in crate::file) raw_bits: Option<u8>,
    pub(in crate::file) weights_per_symbol: Option<WeightsPerSymbol>,
}

/// What is wrong with rules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// Not TOML, or not of the right form.
    #[error(
        "the rules are not `[[layer]]` tables of TOML with a `name` and what is to become of it"
    )]
    Toml(#[source] toml::de::Error),
    /// A name that is no regular expression.
    #[error("the rule for `{name}`: its name is no regular expression")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: regex::Error,
    },
    /// A value that there is no such thing for.
    #[error("the rule for `{name}`: {what}")]
    Value {
        /// The rule's name.
        name: String,
        /// What is wrong, and what would be right.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesText {
    #[serde(default)]
    layer: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: String,
    format: Option<String>,
    weight: Option<f64>,
    raw_bits: Option<u8>,
    weights_per_symbol: Option<u8>,
}

impl Rules {
    /// Reads rules.
    ///
    /// # Errors
    /// [`RulesError`] says which rule is at fault, and what would be right.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let rules: RulesText = toml::from_str(text).map_err(RulesError::Toml)?;
        rules.layer.into_iter().map(RuleText::check).collect::<Result<_, _>>().map(Self)
    }

    /// What they say of the tensor `name`.
    pub(in crate::file) fn of(&self, name: &str) -> Rule {
        let rules = self.0.iter().filter(|(pattern, _)| pattern.is_match(name));
        rules.fold(Rule::default(), |all, (_, rule)| Rule {
            format: rule.format.or(all.format),
            weight: rule.weight.or(all.weight),
            raw_bits: rule.raw_bits.or(all.raw_bits),
            weights_per_symbol: rule.weights_per_symbol.or(all.weights_per_symbol),
        })
    }

    /// The names of the rules that speak of none of the tensors `names`.
    pub(in crate::file) fn idle<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> impl Iterator<Item = &str> {
        let patterns = self.0.iter().map(|(pattern, _)| pattern);
        let idle =
            patterns.filter(move |pattern| !names.clone().any(|name| pattern.is_match(name)));
        idle.map(Regex::as_str)
    }
}

impl RuleText {
    fn check(self) -> Result<(Regex, Rule), RulesError> {
        let Self { name, format, weight, raw_bits, weights_per_symbol } = self;
        let value = |what: String| RulesError::Value { name: name.clone(), what };
        let format = match format.as_deref() {
            None => None,
            Some("raw") => Some(Target::Raw),
            Some("lossless") => Some(Target::Lossless),
            Some(text) => {
                let fault = |error| match error {
                    QuantizeError::UnknownQuantizer(_) => format!("{error}, `raw`, `lossless`"),
                    _ => error.to_string(),
                };
                Some(Target::Quantized(text.parse().map_err(|error| value(fault(error)))?))
            }
        };
        if weight.is_some_and(|weight| !(weight > 0.0 && weight.is_finite())) {
            return Err(value("its weight is not above 0".to_owned()));
        }
        let known = |weights_per_symbol: u8| WeightsPerSymbol::from_code(weights_per_symbol);
        let weights_per_symbol = weights_per_symbol.map(|n| {
            known(n).ok_or_else(|| value(format!("{n} weights a symbol; there are 2 or 4")))
        });
        let fits =
            |raw_bits| WeightsPerSymbol::ALL.iter().any(|&p| Split::i8(p, raw_bits).is_some());
        if let Some(raw_bits) = raw_bits.filter(|&raw_bits| !fits(raw_bits)) {
            return Err(value(format!("{raw_bits} raw bits; there are 0 to 5")));
        }
        let rule =
            Rule { format, weight, raw_bits, weights_per_symbol: weights_per_symbol.transpose()? };
        match Regex::new(&name) {
            Ok(pattern) => Ok((pattern, rule)),
            Err(source) => Err(RulesError::Name { name, source }),
        }
    }
}
