//! Runs of the program that are met in the middle.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::place::Place;

/// How all temporary files and folders start.
pub const PREFIX: &str = ".fused-rans-";

/// How long a job may take to begin.
const TO_BEGIN: Duration = Duration::from_secs(20);

/// How long a job may take to end, of whose work much more is left.
const TO_END: Duration = Duration::from_secs(5);

/// A run of the program in the middle of its work. Killed when dropped.
pub struct Job(Child);

impl Job {
    /// Starts the program in `place` and waits until its temporary file or folder is there, and in the latter `inside`.
    pub fn start(place: &Place, args: &[&str], inside: &str) -> Self {
        let program = place.command(args);
        // What a shell has put into the background, as `nohup` has, ignores signals, and so would the program.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,TERM,HUP").arg(program.get_program());
        command.args(program.get_args()).current_dir(place.path(""));
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::wait(place, command, inside)
    }

    /// The same with a command that becomes the program.
    pub fn wait(place: &Place, mut command: Command, inside: &str) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut job = Self(child);
        let start = Instant::now();
        while !temporary(place).is_some_and(|path| path.join(inside).exists() || inside.is_empty())
        {
            let status = job.0.try_wait().unwrap();
            assert!(status.is_none() && start.elapsed() < TO_BEGIN, "{status:?}: {}", job.said());
            sleep(Duration::from_millis(1));
        }
        job
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Whether it goes on a while later.
    pub fn goes_on(&mut self) -> bool {
        sleep(Duration::from_millis(200));
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for its end, which must be near; returns its status and what it said on standard error.
    pub fn end(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return (status, self.said());
            }
            assert!(start.elapsed() < TO_END, "it does not end");
            sleep(Duration::from_millis(1));
        }
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        let _ = self.0.kill();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one temporary file or folder of a job in `place`.
pub fn temporary(place: &Place) -> Option<PathBuf> {
    let name = place.names().into_iter().find(|name| name.starts_with(PREFIX))?;
    Some(place.path(&name))
}

/// Removes what a killed job has left.
pub fn clean(place: &Place) {
    let left = temporary(place).expect("it can be recognized");
    fs::remove_file(&left).or_else(|_| fs::remove_dir_all(&left)).unwrap();
}
