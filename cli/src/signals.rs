//! Removal of incomplete outputs when a signal ends the program.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use fused_rans::file;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

/// Handles SIGHUP, SIGINT and SIGTERM: removes incomplete outputs, then exits with status 128 plus the signal's number, as
/// shells report it. A second signal exits at once, without waiting for the removal.
///
/// Also turns SIGXFSZ into an error of the write that exceeds the file size limit.
pub(crate) fn handle() -> io::Result<()> {
    // With a handler, such a write fails with EFBIG, which is reported like a full disk.
    flag::register(SIGXFSZ, Arc::default())?;
    let ignored = ignored();
    let mut handled = vec![SIGHUP, SIGINT, SIGTERM];
    handled.retain(|signal| ignored >> (signal - 1) & 1 == 0);
    let signaled = Arc::<AtomicBool>::default();
    for &signal in &handled {
        // In this order: the flag is still unset when the first signal reaches the conditional shutdown.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&signaled))?;
        flag::register(signal, Arc::clone(&signaled))?;
    }
    let mut signals = Signals::new(handled)?;
    let job = move || {
        if let Some(signal) = signals.forever().next() {
            file::abandon_outputs();
            low_level::exit(128 + signal);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(job).map(drop)
}

/// Returns the signals that the process was started to ignore, for example by `nohup`. Bit 0 is signal 1.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
