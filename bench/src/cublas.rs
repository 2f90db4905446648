//! cuBLAS, loaded at run time: the usual reference for matrix products.

use super::BenchError;
use fused_rans::Float;
use fused_rans::gpu::dense::DenseProduct;
use fused_rans::gpu::{CudaStream, DeviceBuffer, Gpu, GpuError};
use libloading::Library;
use std::env;
use std::error::Error;
use std::ffi::{OsString, c_int, c_void};
use std::path::PathBuf;
use std::rc::Rc;

/// Environment variable with libraries to load, or directories to search, before the system's. Separated like `PATH`.
const VARIABLE: &str = "FUSED_RANS_CUBLAS";
/// File names of the library, newest first.
const NAMES: [&str; 4] = ["libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"];
/// Bytes of workspace that NVIDIA recommends for Hopper. It is allocated here once, so that no call allocates any.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Reason why cuBLAS cannot be used, or why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CublasError {
    /// No library could be loaded.
    #[error("cuBLAS not found; install CUDA's libcublas or name it in {VARIABLE}. Tried: {tried}")]
    Missing {
        /// The loader's message for each library that was tried.
        tried: String,
    },
    /// The library is not cuBLAS, or too old.
    #[error("{library} lacks {function}; name another library in {VARIABLE}")]
    Function {
        /// Name of the library.
        library: String,
        /// Name of the function.
        function: &'static str,
        /// The loader's error.
        source: libloading::Error,
    },
    /// A call returned an error.
    #[error("{function} returned cublasStatus_t {status}")]
    Status {
        /// Name of the function.
        function: &'static str,
        /// Its result, a `cublasStatus_t`.
        status: c_int,
    },
    /// A side of a matrix exceeds cuBLAS's 32-bit integers.
    #[error("a matrix side of {side} is too large for cuBLAS; it takes up to 2147483647")]
    Side {
        /// Length of the side.
        side: usize,
    },
    /// The device or the driver failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// `cublasHandle_t`
type Handle = *mut c_void;

/// Values of cuBLAS's enumerations, from `cublas_api.h` and `library_types.h`.
mod constants {
    use std::ffi::c_int;

    pub const SUCCESS: c_int = 0;
    /// `CUBLAS_DEFAULT_MATH`
    pub const DEFAULT_MATH: c_int = 0;
    /// `CUBLAS_OP_N`
    pub const OP_N: c_int = 0;
    /// `CUBLAS_OP_T`
    pub const OP_T: c_int = 1;
    /// `CUDA_R_32F`
    pub const R_32F: c_int = 0;
    /// `CUDA_R_16F`
    pub const R_16F: c_int = 2;
    /// `CUDA_R_16BF`
    pub const R_16BF: c_int = 14;
    /// `CUBLAS_COMPUTE_32F`
    pub const COMPUTE_32F: c_int = 68;
    /// `CUBLAS_GEMM_DEFAULT_TENSOR_OP`
    pub const DEFAULT_TENSOR_OP: c_int = 99;
}

/// `cublasGemmEx`
type GemmEx = unsafe extern "C" fn(
    handle: Handle,
    op_a: c_int,
    op_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: *const c_void,
    a_type: c_int,
    lda: c_int,
    b: *const c_void,
    b_type: c_int,
    ldb: c_int,
    beta: *const c_void,
    c: *mut c_void,
    c_type: c_int,
    ldc: c_int,
    compute: c_int,
    algorithm: c_int,
) -> c_int;

/// The functions of cuBLAS that this module calls. Valid while the library is loaded.
struct Api {
    create: unsafe extern "C" fn(*mut Handle) -> c_int,
    destroy: unsafe extern "C" fn(Handle) -> c_int,
    version: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    set_stream: unsafe extern "C" fn(Handle, *mut c_void) -> c_int,
    set_workspace: unsafe extern "C" fn(Handle, *mut c_void, usize) -> c_int,
    set_math_mode: unsafe extern "C" fn(Handle, c_int) -> c_int,
    gemm_ex: GemmEx,
}

impl Api {
    /// Looks the functions up. `name` is the library's, for the error.
    fn new(library: &Library, name: &str) -> Result<Self, CublasError> {
        /// Looks up a function; its type is that of the field that it initializes.
        macro_rules! function {
            ($function:literal) => {
                // SAFETY: the fields have the types of the functions in `cublas_api.h`.
                *unsafe { library.get(concat!($function, "\0")) }.map_err(|source| {
                    CublasError::Function { library: name.to_owned(), function: $function, source }
                })?
            };
        }
        Ok(Self {
            create: function!("cublasCreate_v2"),
            destroy: function!("cublasDestroy_v2"),
            version: function!("cublasGetVersion_v2"),
            set_stream: function!("cublasSetStream_v2"),
            set_workspace: function!("cublasSetWorkspace_v2"),
            set_math_mode: function!("cublasSetMathMode"),
            gemm_ex: function!("cublasGemmEx"),
        })
    }
}

/// cuBLAS on one CUDA stream. Use it through [`Session`](super::Session).
pub struct Cublas {
    api: Api,
    handle: Handle,
    name: String,
    gpu: Gpu,
    // The handle uses these. Fields are dropped after `Drop::drop` has destroyed it.
    _cuda_stream: Rc<CudaStream>,
    _workspace: DeviceBuffer,
    _library: Library,
}

impl Cublas {
    /// Loads the library and creates a handle for `cuda_stream`.
    ///
    /// # Errors
    /// [`CublasError::Missing`] if no library can be loaded, [`CublasError::Function`] if it lacks a function,
    /// [`CublasError::Status`] if a call fails, and [`CublasError::Gpu`] from the driver.
    pub fn load(gpu: &Gpu, cuda_stream: &Rc<CudaStream>) -> Result<Self, CublasError> {
        let (library, name) = find(env::var_os(VARIABLE))?;
        let api = Api::new(&library, &name)?;
        let workspace = gpu.alloc(WORKSPACE_BYTES)?;
        // Makes the device's primary context current on this thread. cuBLAS uses the same context.
        gpu.synchronize()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is a live variable of the right type.
        done("cublasCreate_v2", unsafe { (api.create)(&raw mut handle) })?;
        let (at, stream) = (workspace.address() as *mut c_void, cuda_stream.as_raw());
        let cublas = Self {
            api,
            handle,
            name,
            gpu: gpu.clone(),
            _cuda_stream: Rc::clone(cuda_stream),
            _workspace: workspace,
            _library: library,
        };
        // SAFETY: the handle is valid, as checked above. The CUDA stream and the workspace of `WORKSPACE_BYTES` bytes are
        // fields of `cublas`, which outlive the handle. The workspace is set last, because setting the CUDA stream resets it.
        unsafe {
            done("cublasSetMathMode", (cublas.api.set_math_mode)(handle, constants::DEFAULT_MATH))?;
            done("cublasSetStream_v2", (cublas.api.set_stream)(handle, stream))?;
            done("cublasSetWorkspace_v2", (cublas.api.set_workspace)(handle, at, WORKSPACE_BYTES))?;
        }
        Ok(cublas)
    }

    /// Returns version and library, such as `cuBLAS 13.0.2 (libcublas.so.13)`.
    #[must_use]
    pub fn name(&self) -> String {
        let mut version = 0;
        // SAFETY: the handle is valid; `version` is a live variable of the right type.
        let status = unsafe { (self.api.version)(self.handle, &raw mut version) };
        let version = if status == constants::SUCCESS { version } else { 0 };
        // `CUBLAS_VERSION` has two digits each for minor version and patch since version 11.
        let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
        format!("cuBLAS {major}.{minor}.{patch} ({})", self.name)
    }

    /// Queues `product` on the CUDA stream and returns. Uses F32 sums and the library's default algorithm for tensor cores.
    ///
    /// # Errors
    /// The errors of [`DenseProduct::check`], [`CublasError::Side`] and [`CublasError::Status`].
    pub fn queue(&self, product: DenseProduct<'_>) -> Result<(), BenchError> {
        product.check()?;
        let side = |side| c_int::try_from(side).map_err(|_| CublasError::Side { side });
        let (rows, cols) = (side(product.shape.rows)?, side(product.shape.cols)?);
        let x_rows = side(product.rows)?;
        let (inputs, outputs) = (type_of(product.dtype), type_of(product.y_dtype));
        let [w, x] = [product.w, product.x].map(|matrix| matrix.address() as *const c_void);
        let y = product.y.address() as *mut c_void;
        let (alpha, beta) = (1f32, 0f32);
        let number = |number: &f32| std::ptr::from_ref(number).cast::<c_void>();
        // cuBLAS reads matrices by columns, so it sees x, y and W transposed, and computes y^T (N x M) as (W^T)^T (N x K)
        // times x^T (K x M).
        // SAFETY: `product.check()` has compared the buffers' sizes with the shape, and the driver does not free buffers that
        // are in use. Alpha and beta are F32, as COMPUTE_32F requires, and are read before the call returns.
        let status = unsafe {
            (self.api.gemm_ex)(
                self.handle,
                constants::OP_T,
                constants::OP_N,
                rows,
                x_rows,
                cols,
                number(&alpha),
                w,
                inputs,
                cols,
                x,
                inputs,
                cols,
                number(&beta),
                y,
                outputs,
                rows,
                constants::COMPUTE_32F,
                constants::DEFAULT_TENSOR_OP,
            )
        };
        Ok(done("cublasGemmEx", status)?)
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        // Queued products still use the workspace, and the context must be current on this thread.
        let _ = self.gpu.synchronize();
        // SAFETY: the handle is valid and is not used again.
        unsafe { (self.api.destroy)(self.handle) };
    }
}

/// Loads the first library that can be loaded, those in `named` before the system's; returns it with its path.
fn find(named: Option<OsString>) -> Result<(Library, String), CublasError> {
    let named = named.unwrap_or_default();
    let places = env::split_paths(&named).filter(|path| !path.as_os_str().is_empty());
    let named = places.flat_map(|path| match path.is_dir() {
        true => NAMES.map(|name| path.join(name)).to_vec(),
        false => vec![path],
    });
    let mut tried = Vec::new();
    for path in named.chain(NAMES.map(PathBuf::from)) {
        // SAFETY: loading runs the library's initializers: NVIDIA's code, or code that the user has named.
        match unsafe { Library::new(&path) } {
            Ok(library) => return Ok((library, path.display().to_string())),
            // The source is the loader's own message, which names the path.
            Err(error) => tried.push(error.source().unwrap_or(&error).to_string()),
        }
    }
    Err(CublasError::Missing { tried: tried.join("; ") })
}

/// Returns the `cudaDataType_t` of a type.
fn type_of(dtype: Float) -> c_int {
    match dtype {
        Float::Bf16 => constants::R_16BF,
        Float::F16 => constants::R_16F,
        Float::F32 => constants::R_32F,
        _ => unreachable!("no product here has another type"),
    }
}

/// Converts a status to a result.
fn done(function: &'static str, status: c_int) -> Result<(), CublasError> {
    match status {
        constants::SUCCESS => Ok(()),
        status => Err(CublasError::Status { function, status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_loaded_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("libcublas.so.13");
        std::fs::write(&file, "no library").unwrap();
        let absent = directory.path().join("absent.so");
        let named = env::join_paths([absent.as_path(), directory.path()]).unwrap();
        // On a machine with cuBLAS, the system's library is found after the named ones have failed.
        match find(Some(named)) {
            Ok((_, name)) => assert!(NAMES.contains(&name.as_str())),
            Err(error) => {
                let error = error.to_string();
                for part in ["cuBLAS not found", VARIABLE, "absent.so", "libcublas.so.12"] {
                    assert!(error.contains(part), "{part}: {error}");
                }
                assert!(error.contains(file.to_str().unwrap()), "{error}");
            }
        }
    }

    #[test]
    fn another_library_is_no_cublas() {
        // Every machine that runs the tests has the C library.
        let (library, name) = find(Some("libc.so.6".into())).unwrap();
        let error = Api::new(&library, &name).err().unwrap();
        assert!(matches!(&error, CublasError::Function { function: "cublasCreate_v2", .. }));
        assert!(error.to_string().contains("libc.so.6 lacks cublasCreate_v2"), "{error}");
    }
}
