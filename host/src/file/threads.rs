//! Thread pools for jobs.

use std::io;

/// Runs `job` on a thread pool of its own with `threads` threads, or one per core for 0. Use it to limit how many threads a
/// job takes; without it, jobs run on rayon's current thread pool.
///
/// # Errors
/// If the operating system does not start that many threads.
pub fn on_threads<T: Send>(threads: usize, job: impl FnOnce() -> T + Send) -> io::Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| {
        let threads = if threads == 0 { "the".to_owned() } else { threads.to_string() };
        // As text: with the error as its source, this one would say the same twice.
        io::Error::other(format!("cannot start {threads} threads: {error}"))
    })?;
    Ok(pool.install(job))
}

#[cfg(test)]
mod tests {
    use std::thread::available_parallelism;

    use super::on_threads;

    #[test]
    fn jobs_get_the_requested_threads() {
        for threads in [1, 2, 7] {
            assert_eq!(on_threads(threads, rayon::current_num_threads).unwrap(), threads);
        }
        // The variable, where set, replaces the number of cores.
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            let cores = available_parallelism().map_or(1, usize::from);
            assert_eq!(on_threads(0, rayon::current_num_threads).unwrap(), cores);
        }
    }
}
