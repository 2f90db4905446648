//! Plain files in, compressed files out.

use std::path::Path;

use crate::Blob;
use crate::codec::parallel_crc;
use crate::file::error::FileError;
use crate::file::format::container::{self, Stored};
use crate::file::format::dtype::TensorDtype;
use crate::file::format::header::Tensor;
use crate::file::format::plain::PlainFile;
use crate::file::model::{Model, PathKind};
use crate::file::policy::CompressPlan;
use crate::file::policy::encoded::{EncodedTensor, Outcome};
use crate::file::policy::options::CompressOptions;
use crate::file::progress::Progress;
use crate::file::summary::Summary;
use crate::file::write::behind::{Piece, write_behind};
use crate::file::write::file::OutputFile;
use crate::file::write::folder::OutputFolder;
use crate::layout::LINE;

/// Compresses the model `input`: a safetensors file into the file `output`, an index or a folder into the folder `output`,
/// file by file. An output file is replaced if it exists, an output folder must be empty or not exist; both appear only
/// when complete.
///
/// Runs on rayon's current thread pool, and on a thread that writes. Beside the mapped input it takes the memory of three
/// blobs, with a quantizer that of one tensor, too, and with a calibration three times that of the tensor's second moments in F64.
///
/// # Errors
/// The errors of [`Model::open`]; [`FileError::AlreadyCompressed`] if any file is compressed; [`FileError::SameFile`],
/// [`FileError::NotAFile`], [`FileError::NoFolder`] and [`FileError::Model`] if the output cannot be written there;
/// [`FileError::Changed`], [`FileError::NoSpace`], [`FileError::Io`].
pub fn compress(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &CompressOptions,
    mut progress: Progress<'_>,
) -> Result<Summary, FileError> {
    let (input, output) = (input.as_ref(), output.as_ref());
    match PathKind::new(input)? {
        PathKind::File => compress_file(input, output, options, &mut progress),
        PathKind::Index | PathKind::Folder => compress_model(input, output, options, &mut progress),
    }
}

fn compress_file(
    input: &Path,
    output: &Path,
    options: &CompressOptions,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let files = [PlainFile::open(input)?];
    let [file] = &files;
    // Before the plan, which may take hours: a bad output must fail at once.
    let writer = Writer::create(output, file)?;
    progress.add_to_total(file.header().data_len as u64);
    let plan = CompressPlan::new(&files, options, progress)?;
    let mut summary = writer.write(file, &plan, progress)?;
    summary.warnings = plan.warnings(summary.quantized, &summary.kept);
    Ok(summary)
}

fn compress_model(
    input: &Path,
    output: &Path,
    options: &CompressOptions,
    progress: &mut Progress<'_>,
) -> Result<Summary, FileError> {
    let model = Model::open(input)?;
    // Before hours of work on other shards.
    if let Some(shard) = model.files().iter().find(|shard| shard.is_compressed) {
        return Err(FileError::AlreadyCompressed { path: shard.path.clone() });
    }
    let folder = OutputFolder::create(output, model.root())?;
    folder.copy_all(model.root(), model.companions())?;
    let files = model.shards().map(PlainFile::open).collect::<Result<Vec<_>, _>>()?;
    progress.add_to_total(files.iter().map(|file| file.header().data_len as u64).sum());
    let plan = CompressPlan::new(&files, options, progress)?;
    let mut summary = Summary::of_model(&model);
    for (file, shard) in files.iter().zip(model.files()) {
        let written = Writer::create(&folder.create_parent(&shard.name)?, file)
            .and_then(|writer| writer.write(file, &plan, progress));
        summary.add(written.map_err(|error| folder.renamed(error))?);
    }
    summary.warnings.extend(plan.warnings(summary.quantized, &summary.kept));
    folder.commit()?;
    Ok(summary)
}

/// A compressed file that is being written.
struct Writer {
    /// Offset of the output's data section.
    data_start: usize,
    out: OutputFile,
}

impl Writer {
    /// Starts the file `output`, the compressed form of `file`.
    fn create(output: &Path, file: &PlainFile) -> Result<Self, FileError> {
        let data_start = container::data_start(file.path(), &file.header_text(), file.header())?;
        let mut out = OutputFile::create(output, file.path())?;
        out.seek(data_start as u64)?;
        Ok(Self { data_start, out })
    }

    /// Writes the blobs, then the tensors that are stored as they are, in the end the header.
    fn write(
        mut self,
        file: &PlainFile,
        plan: &CompressPlan<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Summary, FileError> {
        let mut summary = Summary { tensors: file.tensors().len(), ..Summary::default() };
        let (mut stored, mut raw) = (Vec::with_capacity(summary.tensors), Vec::new());
        write_behind(&mut self.out, |queue| {
            for tensor in file.tensors() {
                let EncodedTensor { blob, outcome } =
                    plan.encode(file.path(), tensor, file.data(tensor), queue.memory())?;
                summary.weights += tensor.weights();
                count(&mut summary, outcome);
                let Some(blob) = blob else {
                    raw.push(tensor);
                    continue;
                };
                stored.push(stored_blob(&tensor.name, &blob));
                queue.push(Piece::Lent(blob.into_bytes()))?;
                progress.add(tensor.byte_len());
            }
            summary.blobs = stored.len();
            for tensor in raw {
                let data = file.data(tensor);
                stored.push(stored_raw(tensor, data));
                queue.push(Piece::Mapped(data))?;
                progress.add(tensor.byte_len());
            }
            Ok(())
        })?;
        self.out.seek(0)?;
        self.out.write(&container::head(&file.header_text(), &stored, self.data_start))?;
        summary.original_bytes = file.file_bytes();
        file.check_unchanged()?;
        plan.check_unchanged()?;
        summary.stored_bytes = self.out.commit()?;
        Ok(summary)
    }
}

/// Describes a tensor that is stored as a blob.
fn stored_blob<'a>(name: &'a str, blob: &Blob<'_>) -> Stored<'a> {
    let (bytes, crc) = (blob.as_bytes().len(), blob.crc());
    debug_assert!(bytes.is_multiple_of(LINE), "the next blob must be aligned, too");
    Stored { name, dtype: TensorDtype::U8, shape: vec![bytes].into(), bytes, crc }
}

/// Describes a tensor that is stored as it is.
fn stored_raw<'a>(tensor: &'a Tensor, data: &[u8]) -> Stored<'a> {
    let Tensor { name, dtype, shape, .. } = tensor;
    let crc = parallel_crc(data);
    Stored { name, dtype: *dtype, shape: shape.into(), bytes: data.len(), crc }
}

/// Counts a tensor by its outcome.
fn count(summary: &mut Summary, outcome: Outcome) {
    match outcome {
        Outcome::AsAsked => {}
        Outcome::Kept(kept) => summary.kept.push(kept),
        Outcome::Quantized => summary.quantized += 1,
        Outcome::Calibrated => {
            summary.quantized += 1;
            summary.calibrated += 1;
        }
    }
}
