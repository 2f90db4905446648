//! Functions that are compiled for several machines.

/// Compiles a function for AVX-512, for AVX2 and for any machine, to be chosen from when it is called.
macro_rules! vectorized {
    ($function:item) => {
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi1+bmi2+lzcnt",
            "x86_64+avx2+bmi1+bmi2+lzcnt"
        ))]
        $function
    };
}
pub(crate) use vectorized;
