//! Signals that end the program.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use fused_rans::file;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

/// Makes a signal remove the outputs that are not complete and then end the program, with the exit status that shells give
/// to that: 128 and the signal's number. Another one does not wait for the removal.
pub(super) fn handle() -> io::Result<()> {
    // To write more than the limit of a file's size is then an error like that of a full disk.
    flag::register(SIGXFSZ, Arc::default())?;
    let ignored = ignored();
    let mut handled = vec![SIGHUP, SIGINT, SIGTERM];
    handled.retain(|signal| ignored >> (signal - 1) & 1 == 0);
    let told = Arc::<AtomicBool>::default();
    for &signal in &handled {
        // In this order: the first one finds that nobody has been told.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&told))?;
        flag::register(signal, Arc::clone(&told))?;
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

/// The signals that are to be ignored, as `nohup` asks for, a bit for each from number 1 on.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
