//! Compilation of functions for several instruction sets.

/// Compiles a function for AVX-512, for AVX2 and for the base instruction set. A call runs the best version that the
/// machine supports.
macro_rules! vectorized {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?
        $body:block
    ) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt")]
                fn avx512($($argument: $type),*) $(-> $result)? $body

                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
                fn avx2($($argument: $type),*) $(-> $result)? $body

                if crate::vectorized::has_avx2() {
                    if crate::vectorized::has_avx512() {
                        // SAFETY: the two conditions above found AVX-512 and AVX2 on this machine.
                        return unsafe { avx512($($argument),*) };
                    }
                    // SAFETY: the first condition found AVX2 on this machine.
                    return unsafe { avx2($($argument),*) };
                }
            }
            fn portable($($argument: $type),*) $(-> $result)? $body
            portable($($argument),*)
        }
    };
}
pub(crate) use vectorized;

/// Returns whether the machine has AVX2, BMI1, BMI2 and LZCNT.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
}

/// Returns whether the machine has the parts of AVX-512 that [`vectorized`] compiles for.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}
