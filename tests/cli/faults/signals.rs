//! Jobs that receive signals.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::job::{Job, clean, temporary};
use super::large::{bomb, long_to_compress};
use crate::place::{Place, SAMPLE};
use support::craft::{bf16, plain, tensor};

/// Signals after which the program cleans up, and its exit status.
const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

const ONE: &str = "model-1.safetensors";
const TWO: &str = "model-2.safetensors";

/// Writes a file whose one tensor takes seconds to compress or decompress.
fn long(path: &Path, command: &str) {
    match command {
        "compress" => long_to_compress(path),
        _ => fs::write(path, bomb(1 << 14, false)).unwrap(),
    }
}

/// Writes a small input for `command`.
fn short(place: &Place, path: &Path, command: &str) {
    let tensors = [tensor("short", "BF16", &[64, 64], bf16(64 * 64))];
    fs::write(path, plain(&tensors, "", 0)).unwrap();
    if command == "decompress" {
        place.ok(&["compress", path.to_str().unwrap(), "-o", "short"]);
        fs::rename(place.path("short"), path).unwrap();
    }
}

/// Creates a directory with an input `in`, whose last file takes long, and an old output `out`, which must survive.
fn start(command: &str, folder: bool) -> Place {
    let place = Place::empty();
    if folder {
        fs::create_dir(place.path("in")).unwrap();
        fs::create_dir(place.path("out")).unwrap();
        fs::write(place.path("in").join("config.json"), "{}").unwrap();
        short(&place, &place.path("in").join(ONE), command);
        long(&place.path("in").join(TWO), command);
    } else {
        fs::write(place.path("out"), "old").unwrap();
        long(&place.path("in"), command);
    }
    place
}

fn all() -> impl Iterator<Item = (&'static str, bool)> {
    ["compress", "decompress"].into_iter().flat_map(|command| [(command, false), (command, true)])
}

/// Checks that the old output is unchanged.
fn output_is_old(place: &Place, folder: bool) {
    match folder {
        true => assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0),
        false => assert_eq!(fs::read(place.path("out")).unwrap(), b"old"),
    }
}

#[test]
fn interrupted_jobs_leave_no_files() {
    for (command, folder) in all() {
        let place = start(command, folder);
        for (signal, status) in SIGNALS {
            let inside = if folder { ONE } else { "" };
            let job = Job::start(&place, &[command, "in", "-o", "out", "--threads", "1"], inside);
            job.signal(signal);
            let (ended, said) = job.end();
            assert_eq!((ended.code(), &*said), (Some(status), ""), "{command} {signal}");
            assert_eq!(place.names(), ["in", "out"], "{command} {signal}");
            output_is_old(&place, folder);
        }
    }
}

#[test]
fn files_of_killed_jobs_are_recognizable_and_harmless() {
    for (command, folder) in all() {
        let place = start(command, folder);
        let inside = if folder { ONE } else { "" };
        let job = Job::start(&place, &[command, "in", "-o", "out", "--threads", "1"], inside);
        job.signal("KILL");
        assert_eq!(job.end().0.signal(), Some(9));
        output_is_old(&place, folder);
        assert_eq!(place.names().len(), 3);
        // The next job is not disturbed either, and does not remove it.
        short(&place, &place.path("in2"), command);
        place.ok(&[command, "in2", "-o", "out2"]);
        assert!(temporary(&place).unwrap().exists());
        clean(&place);
        assert_eq!(place.names(), ["in", "in2", "out", "out2"]);
    }
}

#[test]
fn charts_and_demonstrations_leave_nothing_either() {
    let place = Place::empty();
    long_to_compress(&place.path("in"));
    fs::write(place.path("out.svg"), "old").unwrap();
    for args in [&["inspect", "in", "--plot", "out.svg"][..], &["demo", "--threads", "1"]] {
        let job = Job::start(&place, args, "");
        job.signal("INT");
        assert_eq!(job.end().0.code(), Some(130));
        assert_eq!(place.names(), ["in", "out.svg"]);
    }
    assert_eq!(fs::read(place.path("out.svg")).unwrap(), b"old");
}

/// `nohup` and background jobs of a shell start programs with ignored signals.
#[test]
fn ignored_signals_stay_ignored() {
    let place = start("compress", false);
    let mut command = Command::new("sh");
    let program = place.command(&["compress", "in", "-o", "out", "--threads", "1"]);
    command.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(program.get_program());
    command.args(program.get_args()).current_dir(place.path(""));
    let mut job = Job::wait(&place, command, "");
    job.signal("HUP");
    job.signal("INT");
    assert!(job.goes_on());
    job.signal("TERM");
    assert_eq!(job.end().0.code(), Some(143));
    assert_eq!(place.names(), ["in", "out"]);
}

/// Sends the signal after 0 to 39 ms: before the program has begun, while it writes, or when it is done.
#[test]
fn a_signal_never_leaves_a_part_of_an_output() {
    let place = Place::empty();
    fs::copy(SAMPLE, place.path("in")).unwrap();
    for delay in 0..40 {
        let mut job = place.command(&["compress", "in", "-o", "out"]).stdout(Stdio::null()).spawn();
        let job = job.as_mut().unwrap();
        sleep(Duration::from_millis(delay));
        Command::new("kill").arg(job.id().to_string()).status().unwrap();
        let status = job.wait().unwrap();
        if place.path("out").exists() {
            place.ok(&["verify", "out", "--against", "in"]);
            fs::remove_file(place.path("out")).unwrap();
        } else {
            assert!(status.code() == Some(143) || status.signal() == Some(15), "{status}");
        }
        assert_eq!(place.names(), ["in"]);
    }
}
