//! Results as tables, CSV and JSON. Field names are keys of the JSON, which scripts read: they stay.

use serde::Serialize;

/// Result of measuring a layer with one number of rows of x.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// Name of the layer.
    pub name: String,
    /// N (output features) and K (input features).
    pub shape: [usize; 2],
    /// Format of the weights, such as `BF16` or `INT4x4`.
    pub format: &'static str,
    /// Bits per weight of the compressed layer, everything included.
    pub bits_per_weight: f64,
    /// Number of rows of x.
    pub m: usize,
    /// Microseconds per product, the median over batches.
    pub us: f64,
    /// GB/s at which the compressed layer is read: its size over `us`.
    pub gbps: f64,
    /// `gbps` over [`Report::copy_gbps`].
    pub copy_share: f64,
    /// Microseconds per product of cuBLAS with dense 16-bit weights, if cuBLAS is the reference.
    pub cublas_us: Option<f64>,
    /// Microseconds per product of our dense kernel, if that is the reference.
    pub dense_us: Option<f64>,
    /// The reference's time over `us`; `None` if the dense weights did not fit into device memory.
    pub speedup: Option<f64>,
    /// Bytes of device memory that the layer takes. Drivers count in mebibytes.
    pub device_bytes: usize,
    /// Share of the dense 16-bit weights' memory that the compressed layer saves, if the dense weights fitted.
    pub vram_saved: Option<f64>,
    /// Relative error of F32 outputs: norm of the error over the norm of the product in F64.
    pub error: f64,
    /// Relative error of the reference. Includes that weights with scales are rounded to 16 bits for it.
    pub reference_error: Option<f64>,
    /// Launch plan of the kernel.
    pub plan: String,
}

impl Measurement {
    /// Column titles of [`Measurement::cells`].
    pub const COLUMNS: [&str; 11] = [
        "layer",
        "shape",
        "format",
        "bits/weight",
        "m",
        "us",
        "GB/s",
        "% of copy",
        "cuBLAS us",
        "dense us",
        "speedup",
    ];

    /// Column titles of [`Measurement::csv`].
    const CSV: &str = "name,rows,cols,format,bits_per_weight,m,us,gbps,copy_share,cublas_us,\
                           dense_us,speedup,device_bytes,vram_saved,error,reference_error,plan";

    /// Returns the cells of a table row for people.
    #[must_use]
    pub fn cells(&self) -> [String; 11] {
        let [n, k] = self.shape;
        let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
        [
            self.name.clone(),
            format!("{n}x{k}"),
            self.format.to_owned(),
            format!("{:.2}", self.bits_per_weight),
            self.m.to_string(),
            format!("{:.2}", self.us),
            format!("{:.0}", self.gbps),
            format!("{:.1}", 100.0 * self.copy_share),
            or_dash(self.cublas_us.map(|us| format!("{us:.2}"))),
            or_dash(self.dense_us.map(|us| format!("{us:.2}"))),
            or_dash(self.speedup.map(|speedup| format!("{speedup:.2}x"))),
        ]
    }

    /// Returns a line of CSV.
    fn csv(&self) -> String {
        let [rows, cols] = self.shape;
        let optional = |number: Option<f64>| number.map_or_else(String::new, |n| format!("{n:.3}"));
        let error = self.reference_error.map_or_else(String::new, |error| format!("{error:.3e}"));
        [
            quoted(&self.name),
            rows.to_string(),
            cols.to_string(),
            self.format.to_owned(),
            format!("{:.3}", self.bits_per_weight),
            self.m.to_string(),
            format!("{:.3}", self.us),
            format!("{:.1}", self.gbps),
            format!("{:.4}", self.copy_share),
            optional(self.cublas_us),
            optional(self.dense_us),
            optional(self.speedup),
            self.device_bytes.to_string(),
            optional(self.vram_saved),
            format!("{:.3e}", self.error),
            error,
            quoted(&self.plan),
        ]
        .join(",")
    }
}

/// Quotes a field of CSV.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// All results of a run, with the device and the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the device.
    pub gpu: String,
    /// Version of its driver.
    pub driver: String,
    /// GB/s of a copy in device memory, bytes read plus bytes written.
    pub copy_gbps: f64,
    /// GB/s at which our dense kernel reads weights.
    pub read_gbps: f64,
    /// The reference's name.
    pub reference: String,
    /// The measurements.
    pub rows: Vec<Measurement>,
}

impl Report {
    /// Returns the lines above a table of the measurements.
    #[must_use]
    pub fn head(&self) -> String {
        let Self { gpu, driver, copy_gbps, read_gbps, reference, .. } = self;
        format!(
            "{gpu}, driver {driver}: a copy moves {copy_gbps:.0} GB/s, read and written; a dense \
             kernel of ours reads {read_gbps:.0} GB/s.\n{reference}"
        )
    }

    /// Returns CSV with one line per measurement. Each line repeats device, driver, `commit` and reference.
    #[must_use]
    pub fn csv(&self, commit: &str) -> String {
        let Self { gpu, driver, copy_gbps, read_gbps, reference, rows } = self;
        let (gpu, reference) = (quoted(gpu), quoted(reference));
        let mut csv =
            format!("gpu,driver,commit,copy_gbps,read_gbps,reference,{}\n", Measurement::CSV);
        for row in rows.iter().map(Measurement::csv) {
            csv += &format!(
                "{gpu},{driver},{commit},{copy_gbps:.1},{read_gbps:.1},{reference},{row}\n"
            );
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement() -> Measurement {
        Measurement {
            name: "a \"layer\"".to_owned(),
            shape: [4096, 14336],
            format: "BF16",
            bits_per_weight: 10.654,
            m: 8,
            us: 31.416,
            gbps: 2489.6,
            copy_share: 0.8271,
            cublas_us: Some(47.0),
            dense_us: None,
            speedup: Some(1.496),
            device_bytes: 78_643_200,
            vram_saved: Some(0.3304),
            error: 1.25e-7,
            reference_error: None,
            plan: "octets: 1, blocks: 132".to_owned(),
        }
    }

    #[test]
    fn cells_are_for_people_and_csv_is_for_programs() {
        let cells = "a \"layer\"|4096x14336|BF16|10.65|8|31.42|2490|82.7|47.00|-|1.50x";
        assert_eq!(measurement().cells().join("|"), cells);
        let csv = "\"a \"\"layer\"\"\",4096,14336,BF16,10.654,8,31.416,2489.6,0.8271,47.000,,1.496,\
                   78643200,0.330,1.250e-7,,\"octets: 1, blocks: 132\"";
        assert_eq!(measurement().csv(), csv);
        // The plan's comma is quoted.
        assert_eq!(Measurement::CSV.split(',').count() + 1, csv.split(',').count());
    }

    #[test]
    fn every_line_of_a_report_says_where_it_comes_from() {
        let report = Report {
            gpu: "NVIDIA H100".to_owned(),
            driver: "580.159.04".to_owned(),
            copy_gbps: 3010.0,
            read_gbps: 3100.0,
            reference: "cuBLAS 13.0.2".to_owned(),
            rows: vec![measurement(), measurement()],
        };
        let csv = report.csv("1234abc");
        let start = "\"NVIDIA H100\",580.159.04,1234abc,3010.0,3100.0,\"cuBLAS 13.0.2\",\"a ";
        assert!(csv.lines().skip(1).all(|line| line.starts_with(start)), "{csv}");
        assert_eq!(csv.lines().count(), 3);
        let lines = "NVIDIA H100, driver 580.159.04: a copy moves 3010 GB/s, read and written; a \
                     dense kernel of ours reads 3100 GB/s.\ncuBLAS 13.0.2";
        assert_eq!(report.head(), lines);
    }

    #[test]
    fn json_has_nulls_for_what_was_not_measured() {
        let json = serde_json::to_value(measurement()).unwrap();
        assert_eq!(json["shape"], serde_json::json!([4096, 14336]));
        assert_eq!(json["cublas_us"], 47.0);
        assert!(json["dense_us"].is_null() && json["reference_error"].is_null());
    }
}
