//! Runs of the program that are interrupted in the middle.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::place::Place;

/// Prefix of the names of all temporary files and folders.
pub const PREFIX: &str = ".fused-rans-";

/// Time in which a job must create its temporary file.
const TO_BEGIN: Duration = Duration::from_secs(20);

/// Time in which an interrupted job must end; its work would take longer.
const TO_END: Duration = Duration::from_secs(5);

/// A run of the program in the middle of its work. Killed when dropped.
pub struct Job(Child);

impl Job {
    /// Starts the program in `place` and waits until its temporary file exists, or `inside` in its temporary folder.
    pub fn start(place: &Place, args: &[&str], inside: &str) -> Self {
        let program = place.command(args);
        // In the background of a shell or under `nohup`, the tests ignore signals, and the program would inherit that.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,TERM,HUP").arg(program.get_program());
        command.args(program.get_args()).current_dir(place.path(""));
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::wait(place, command, inside)
    }

    /// Starts `command`, which becomes the program, and waits like [`Job::start`].
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

    /// Sends the job a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Returns whether the job still runs after a while.
    pub fn goes_on(&mut self) -> bool {
        sleep(Duration::from_millis(200));
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for the job to end within [`TO_END`]; returns its exit status and standard error.
    pub fn end(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return (status, self.said());
            }
            assert!(start.elapsed() < TO_END, "the job does not end");
            sleep(Duration::from_millis(1));
        }
    }

    /// Kills the job; returns its standard error.
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

/// Returns the path of a job's temporary file or folder in `place`.
pub fn temporary(place: &Place) -> Option<PathBuf> {
    let name = place.names().into_iter().find(|name| name.starts_with(PREFIX))?;
    Some(place.path(&name))
}

/// Removes the temporary file or folder of a killed job.
pub fn clean(place: &Place) {
    let left = temporary(place).expect("it has the prefix");
    fs::remove_file(&left).or_else(|_| fs::remove_dir_all(&left)).unwrap();
}
