//! The weight formats that are compared.

use fused_rans_host::quantize::Quantizer;

use crate::Error;

/// Bits a weight at which [`Quantizer::Rate`] is tried.
const RATES: [f64; 8] = [6.0, 5.7, 5.0, 4.5, 4.0, 3.5, 3.0, 2.5];

/// Name of the reference.
pub const REFERENCE: &str = "bf16";

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// Name: of the quantizer, with `calibrated` and `spread` behind it.
    pub name: String,
    /// How the weights get there.
    pub method: Method,
}

/// How weights get into a format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// They stay as they are.
    Unchanged,
    /// [`nf4`](crate::measure::nf4), in memory.
    Nf4,
    /// The model is compressed.
    Compressed {
        /// How it is quantized.
        quantizer: Quantizer,
        /// Whether that is done with moments of the layers' inputs.
        calibrated: bool,
        /// Whether bits are spread over the tensors.
        spread: bool,
    },
}

impl Format {
    /// All formats, the reference first.
    ///
    /// # Errors
    /// Never: the rates are ones that there are.
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
            for (calibrated, spread) in [(false, false), (false, true), (true, false), (true, true)]
            {
                formats.push(Self::compressed(quantizer, calibrated, spread));
            }
        }
        Ok(formats)
    }

    fn compressed(quantizer: Quantizer, calibrated: bool, spread: bool) -> Self {
        let mut name = quantizer.to_string();
        for (word, wanted) in [(" calibrated", calibrated), (" spread", spread)] {
            name.push_str(if wanted { word } else { "" });
        }
        Self { name, method: Method::Compressed { quantizer, calibrated, spread } }
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
