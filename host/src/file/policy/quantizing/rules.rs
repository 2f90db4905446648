//! Rules for single layers, written in TOML.

use crate::WeightsPerSymbol;
use crate::file::policy::quantizing::treatment::Target;
use crate::layout::Split;
use crate::quantize::QuantizeError;
use regex::Regex;
use serde::Deserialize;

/// Rules for single tensors of a model, chosen by their names. Use them to give some layers another format or more bits.
///
/// ```
/// # use fused_rans_host::file::Rules;
/// Rules::parse(r#"
///     [[layer]]
///     name = "down_proj"        # a regular expression that matches anywhere in the name
///     weight = 2.0              # factor of its error where layers share an average rate; default 1
///
///     [[layer]]
///     name = '\.(0|29)\.'
///     format = "rate=6"         # `raw`, `lossless`, or a quantizer as in the command line
///     raw_bits = 3              # bits of each integer that are stored as they are
///     weights_per_symbol = 4    # integers that share a symbol: 2 or 4
/// "#)?;
/// # Ok::<(), fused_rans_host::file::RulesError>(())
/// ```
///
/// Where several rules match a tensor, the last one that has a key decides on that key.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<(Regex, Rule)>);

/// The settings of a rule, or of all rules that match a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rule {
    /// With the index of the rule that it is from.
    pub(super) format: Option<(Target, usize)>,
    pub(super) weight: Option<f64>,
    pub(super) raw_bits: Option<u8>,
    pub(super) weights_per_symbol: Option<WeightsPerSymbol>,
}

/// Why rules were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// Not TOML, or TOML of another form.
    #[error("the rules are not TOML tables `[[layer]]`, each with a `name` and settings for it")]
    Toml(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A name that is not a regular expression.
    #[error("the rule for `{name}`: its name is not a regular expression")]
    Name {
        /// The name.
        name: String,
        /// The fault.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value that is not allowed.
    #[error("the rule for `{name}`: {what}")]
    Value {
        /// The rule's name.
        name: String,
        /// The mistake, and the allowed values.
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
    /// Parses rules from TOML.
    ///
    /// # Errors
    /// [`RulesError`] names the rule at fault, and the allowed values.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let rules: RulesText =
            toml::from_str(text).map_err(|error| RulesError::Toml(error.into()))?;
        let checked = rules.layer.into_iter().enumerate().map(|(index, rule)| rule.check(index));
        checked.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the combined settings for the tensor `name`.
    pub(super) fn rule(&self, name: &str) -> Rule {
        let rules = self.0.iter().filter(|(pattern, _)| pattern.is_match(name));
        rules.fold(Rule::default(), |all, (_, rule)| Rule {
            format: rule.format.or(all.format),
            weight: rule.weight.or(all.weight),
            raw_bits: rule.raw_bits.or(all.raw_bits),
            weights_per_symbol: rule.weights_per_symbol.or(all.weights_per_symbol),
        })
    }

    /// Returns the pattern of the rule with this index.
    pub(super) fn pattern(&self, index: usize) -> &str {
        self.0[index].0.as_str()
    }

    /// Returns the patterns that match none of the tensors `names`.
    pub(super) fn unused<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> impl Iterator<Item = &str> {
        let patterns = self.0.iter().map(|(pattern, _)| pattern);
        let unused =
            patterns.filter(move |pattern| !names.clone().any(|name| pattern.is_match(name)));
        unused.map(Regex::as_str)
    }
}

impl RuleText {
    /// Checks the values, and compiles the name. `index` is the rule's place among all.
    fn check(self, index: usize) -> Result<(Regex, Rule), RulesError> {
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
            return Err(value("its weight is not above 0 and finite".to_owned()));
        }
        let known = |weights_per_symbol: u8| WeightsPerSymbol::from_code(weights_per_symbol);
        let weights_per_symbol = weights_per_symbol.map(|n| {
            known(n).ok_or_else(|| value(format!("{n} weights per symbol; there are 2 or 4")))
        });
        let fits =
            |raw_bits| WeightsPerSymbol::ALL.iter().any(|&p| Split::i8(p, raw_bits).is_some());
        if let Some(raw_bits) = raw_bits.filter(|&raw_bits| !fits(raw_bits)) {
            return Err(value(format!("{raw_bits} raw bits; there are 0 to 5")));
        }
        let format = format.map(|format| (format, index));
        let rule =
            Rule { format, weight, raw_bits, weights_per_symbol: weights_per_symbol.transpose()? };
        match Regex::new(&name) {
            Ok(pattern) => Ok((pattern, rule)),
            Err(error) => Err(RulesError::Name { name, source: error.into() }),
        }
    }
}
