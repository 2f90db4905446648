//! The weight formats to compare.

use fused_rans_host::quantize::Quantizer;

use crate::Error;

/// Rates of [`Quantizer::Rate`], in bits per weight.
const RATES: [f64; 8] = [6.0, 5.7, 5.0, 4.5, 4.0, 3.5, 3.0, 2.5];

/// Name of the reference format.
pub const REFERENCE: &str = "bf16";

/// A weight format: a row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// Its name: that of the quantizer, followed by `calibrated` and `spread` (for a shared rate).
    pub name: String,
    /// How to convert weights to it.
    pub method: Method,
}

/// How to convert weights to a format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Leave them unchanged.
    Unchanged,
    /// Round them to [NF4](crate::measure::nf4) in memory.
    Nf4,
    /// Compress the model.
    Compressed {
        /// The quantizer.
        quantizer: Quantizer,
        /// Whether moments of the layers' inputs calibrate it.
        calibrated: bool,
        /// Whether all tensors share the rate, so that sensitive ones get more bits.
        share_rate: bool,
    },
}

impl Format {
    /// Returns all formats, the reference first.
    ///
    /// # Errors
    /// [`Error::Quantize`] if a quantizer does not exist.
    pub fn all() -> Result<Vec<Self>, Error> {
        let mut formats = vec![Self { name: REFERENCE.to_owned(), method: Method::Unchanged }];
        let plain = [
            Quantizer::Int8,
            Quantizer::Fp8,
            Quantizer::Int4 { zero_points: false },
            Quantizer::Int4 { zero_points: true },
        ];
        formats.extend(plain.map(|quantizer| Self::compressed(quantizer, false, false)));
        formats.push(Self { name: "nf4".to_owned(), method: Method::Nf4 });
        for bits in RATES {
            let quantizer = Quantizer::rate(bits)?;
            for (calibrated, share_rate) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                formats.push(Self::compressed(quantizer, calibrated, share_rate));
            }
        }
        Ok(formats)
    }

    fn compressed(quantizer: Quantizer, calibrated: bool, share_rate: bool) -> Self {
        let mut name = quantizer.to_string();
        for (word, wanted) in [(" calibrated", calibrated), (" spread", share_rate)] {
            name.push_str(if wanted { word } else { "" });
        }
        Self { name, method: Method::Compressed { quantizer, calibrated, share_rate } }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_tell_formats_apart() {
        let formats = Format::all().unwrap();
        assert_eq!(formats.len(), 6 + 4 * RATES.len());
        assert_eq!((&*formats[0].name, formats[0].method), (REFERENCE, Method::Unchanged));
        let names: BTreeSet<&str> = formats.iter().map(|format| &*format.name).collect();
        assert_eq!(names.len(), formats.len());
        for name in ["int4-zero-points", "nf4", "rate=5.7", "rate=4 spread", "rate=4 calibrated"] {
            assert!(names.contains(name), "{name}");
        }
        assert!(names.contains("rate=2.5 calibrated spread"));
    }
}
