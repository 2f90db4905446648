//! Results, for tables, CSV and JSON.

use serde::Serialize;

/// A multiplication that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the layer.
    pub name: String,
    /// N, output features, and K, input features.
    pub shape: [usize; 2],
    /// How the weights are stored.
    pub format: &'static str,
    /// Bits of the compressed layer for each weight, everything counted.
    pub bits_per_weight: f64,
    /// Rows of x.
    pub m: usize,
    /// Microseconds of a call, the median over batches.
    pub us: f64,
    /// Bytes of the compressed layer by that time, in GB/s.
    pub gbps: f64,
    /// `gbps` as a share of a copy's, which counts bytes read and written.
    pub copy_share: f64,
    /// Microseconds of cuBLAS with the dense weights in 16 bits, if it was there.
    pub cublas_us: Option<f64>,
    /// Microseconds of a dense kernel of ours, if there was no cuBLAS.
    pub dense_us: Option<f64>,
    /// The time of whichever it was by `us`; none if there was no room for the dense weights.
    pub speedup: Option<f64>,
    /// Bytes of device memory that the layer takes, as the device counts them (by mebibytes).
    pub device_bytes: usize,
    /// Which share of the memory of the dense weights in 16 bits that saves, if there was room for those.
    pub vram_saved: Option<f64>,
    /// Norm of the error of F32 outputs, over that of the product in F64.
    pub error: f64,
    /// The same of cuBLAS or the dense kernel; weights of groups were rounded to 16 bits for it.
    pub reference_error: Option<f64>,
    /// How the kernel was launched.
    pub plan: String,
}

impl Row {
    /// Titles of [`Row::cells`].
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

    /// Titles of [`Row::csv`].
    const CSV: &str = "name,rows,cols,format,bits_per_weight,m,us,gbps,copy_share,cublas_us,\
                           dense_us,speedup,device_bytes,vram_saved,error,reference_error,plan";

    /// For people.
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

    /// A line of CSV.
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

/// A field of CSV.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Everything that was measured in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The device's name.
    pub gpu: String,
    /// Version of its driver.
    pub driver: String,
    /// GB/s of a copy in device memory, read and written.
    pub copy_gbps: f64,
    /// GB/s that a dense kernel of ours reads weights at.
    pub read_gbps: f64,
    /// What the rows are compared with.
    pub reference: String,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// What stands above the rows.
    #[must_use]
    pub fn head(&self) -> String {
        let Self { gpu, driver, copy_gbps, read_gbps, reference, .. } = self;
        format!(
            "{gpu}, driver {driver}: a copy moves {copy_gbps:.0} GB/s, read and written; a dense \
             kernel of ours reads {read_gbps:.0} GB/s.\n{reference}"
        )
    }

    /// CSV with a line a row, which also has what is the same for all of them, and `commit`.
    #[must_use]
    pub fn csv(&self, commit: &str) -> String {
        let Self { gpu, driver, copy_gbps, read_gbps, reference, rows } = self;
        let (gpu, reference) = (quoted(gpu), quoted(reference));
        let mut csv = format!("gpu,driver,commit,copy_gbps,read_gbps,reference,{}\n", Row::CSV);
        for row in rows.iter().map(Row::csv) {
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

    fn row() -> Row {
        Row {
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
    fn a_row_for_people_and_one_for_programs() {
        let cells = "a \"layer\"|4096x14336|BF16|10.65|8|31.42|2490|82.7|47.00|-|1.50x";
        assert_eq!(row().cells().join("|"), cells);
        let csv = "\"a \"\"layer\"\"\",4096,14336,BF16,10.654,8,31.416,2489.6,0.8271,47.000,,1.496,\
                   78643200,0.330,1.250e-7,,\"octets: 1, blocks: 132\"";
        assert_eq!(row().csv(), csv);
        // The plan's comma is quoted.
        assert_eq!(Row::CSV.split(',').count() + 1, csv.split(',').count());
    }

    #[test]
    fn every_line_of_a_report_says_where_it_comes_from() {
        let report = Report {
            gpu: "NVIDIA H100".to_owned(),
            driver: "580.159.04".to_owned(),
            copy_gbps: 3010.0,
            read_gbps: 3100.0,
            reference: "cuBLAS 13.0.2".to_owned(),
            rows: vec![row(), row()],
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
        let json = serde_json::to_value(row()).unwrap();
        assert_eq!(json["shape"], serde_json::json!([4096, 14336]));
        assert_eq!(json["cublas_us"], 47.0);
        assert!(json["dense_us"].is_null() && json["reference_error"].is_null());
    }
}
