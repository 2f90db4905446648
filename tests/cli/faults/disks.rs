//! Outputs without space or permission.
//!
//! A file size limit simulates a full disk everywhere. Where mounting is permitted, small file systems are mounted in a
//! namespace of their own, which removes them; elsewhere these tests print that they are skipped.

use std::fs::{self, OpenOptions};
use std::process::{Command, Output};

use crate::place::{Place, SAMPLE};
use support::craft::{bf16, plain, tensor};

const NO_SPACE: &str = "no space for it; free some, raise the limit, or choose another output: ";

/// Creates a directory with the sample as `in`, its compressed form as `packed`, and an old file `out`.
fn start() -> Place {
    let place = Place::empty();
    fs::copy(SAMPLE, place.path("in")).unwrap();
    place.ok(&["compress", "in", "-o", "packed"]);
    fs::write(place.path("out"), "old").unwrap();
    place
}

/// Returns a command that runs `script` in a shell; the script's arguments are the program and `args`.
fn script(place: &Place, shell: &[&str], script: &str, args: &[&str]) -> Command {
    let program = place.command(args);
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", script, "sh"]).arg(program.get_program());
    command.args(program.get_args()).current_dir(place.path(""));
    command
}

/// Runs the program with a file size limit of `blocks` blocks of 512 bytes; returns the error message if it fails.
fn limited(place: &Place, blocks: u64, args: &[&str]) -> Result<(), String> {
    let limit = format!("ulimit -f {blocks}; exec \"$@\"");
    let Output { status, stderr, .. } = script(place, &["sh"], &limit, args).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    match status.code() {
        Some(0) => Ok(()),
        code => {
            assert_eq!(code, Some(1), "{status} {stderr}");
            Err(stderr)
        }
    }
}

/// Returns whether an error message names `path`, has one line, and says that there is no space.
fn has_no_space(said: &str, path: &str) -> bool {
    let start = format!("error: {path}: {NO_SPACE}");
    said.starts_with(&start) && said.lines().count() == 1 && !said.contains(".fused-rans-")
}

#[test]
fn files_that_become_too_large_leave_nothing() {
    let place = start();
    for (command, input, result) in [("compress", "in", "packed"), ("decompress", "packed", "in")] {
        let bytes = fs::metadata(place.path(result)).unwrap().len();
        // The limit is reached in the first bytes, in the middle, or in the last bytes.
        for blocks in [0, 1, bytes / 2048, bytes / 1024, bytes / 512 - 1, (bytes - 1) / 512] {
            let said = limited(&place, blocks, &[command, input, "-o", "out"]).unwrap_err();
            assert!(has_no_space(&said, "out"), "{blocks}: {said}");
            assert_eq!(fs::read(place.path("out")).unwrap(), b"old");
            assert_eq!(place.names(), ["in", "out", "packed"]);
        }
        limited(&place, bytes.div_ceil(512), &[command, input, "-o", "new"]).unwrap();
        assert!(fs::read(place.path("new")).unwrap() == fs::read(place.path(result)).unwrap());
        fs::remove_file(place.path("new")).unwrap();
    }
    let said = limited(&place, 1, &["inspect", "in", "--plot", "out.svg"]).unwrap_err();
    assert!(said.starts_with("error: out.svg: cannot write: "), "{said}");
    assert_eq!(place.names(), ["in", "out", "packed"]);
}

#[test]
fn folders_name_the_file_that_has_no_space() {
    let place = Place::empty();
    let file = |name: &str, side: usize| {
        let tensors = [tensor(name, "BF16", &[side, 256], bf16(side * 256))];
        fs::write(place.path(&format!("in/{name}.safetensors")), plain(&tensors, "", 0)).unwrap();
    };
    fs::create_dir(place.path("in")).unwrap();
    fs::create_dir(place.path("out")).unwrap();
    file("a", 64);
    file("b", 1024);
    fs::write(place.path("in/config.json"), "{}").unwrap();
    place.ok(&["compress", "in", "-o", "packed"]);
    let fails = |args: &[&str], path: &str| {
        let said = limited(&place, 200, args).unwrap_err();
        assert!(has_no_space(&said, path), "{said}");
        assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0);
        assert_eq!(place.names(), ["in", "out", "packed"]);
    };
    fails(&["compress", "in", "-o", "out"], "out/b.safetensors");
    fails(&["decompress", "packed", "-o", "out"], "out/b.safetensors");
    // Uncompressed shards are copied, like configuration files.
    fs::copy(place.path("in/b.safetensors"), place.path("packed/b.safetensors")).unwrap();
    fails(&["decompress", "packed", "-o", "out"], "out/b.safetensors");
    fs::write(place.path("in/config.json"), "x".repeat(200_000)).unwrap();
    fails(&["compress", "in", "-o", "out"], "out/config.json");
}

#[test]
fn where_nothing_can_be_said_the_exit_status_tells() {
    let place = start();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [&["compress", "in", "-o", "out", "--json"][..], &["inspect", "in", "--json"]] {
        let Output { status, stderr, .. } = place.command(args).stdout(full()).output().unwrap();
        assert_eq!(status.code(), Some(1));
        assert!(stderr.starts_with(b"error: cannot write to standard output: No space left"));
    }
    place.ok(&["verify", "out", "--against", "in"]);
    let status = place.command(&["compress", "missing", "-o", "out"]).stderr(full()).status();
    assert_eq!(status.unwrap().code(), Some(1));
    // Warnings cannot be printed, but the job succeeds.
    let narrow = [tensor("w", "BF16", &[2, 256], bf16(512))];
    fs::write(place.path("narrow"), plain(&narrow, "", 0)).unwrap();
    let args = ["compress", "narrow", "-o", "out", "--format", "rate=3"];
    assert!(place.command(&args).stderr(full()).output().unwrap().status.success());
    place.ok(&["verify", "out", "--against", "narrow"]);
}

/// Runs the program where `mount` has mounted a file system as `disk`, with a file `out` and an empty `folder` on it. Checks
/// that the program fails and leaves nothing on the disk. Returns its standard error, or `None` if mounting is not permitted.
fn mounted(place: &Place, user: bool, mount: &str, args: &[&str]) -> Option<String> {
    let body = format!(
        r#"mkdir -p disk && {mount} && mkdir -p disk/folder && echo old > disk/out && sync || exit 77
        ${{before:-:}} || exit 77; "$@" >&2; status=$?; cd disk; echo $(ls -A | grep -v lost) $(ls -A folder) $(cat out); exit $status"#
    );
    let shell = ["unshare", "--mount", "--user", "--map-root-user", "sh"];
    let shell: Vec<&str> = shell.into_iter().filter(|arg| user || !arg.ends_with("user")).collect();
    let output = script(place, &shell, &body, args).output().ok()?;
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    if output.status.code() == Some(77) || stderr.starts_with("unshare: ") {
        eprintln!("skipped: mounting is not permitted here: {stderr}");
        return None;
    }
    assert_eq!((output.status.code(), &*stdout), (Some(1), "folder out old\n"), "{stderr}");
    Some(stderr)
}

/// Creates the directory of [`start`] with the sample in a folder `model`, too.
fn start_both() -> Place {
    let place = start();
    fs::create_dir(place.path("model")).unwrap();
    fs::copy(SAMPLE, place.path("model/model.safetensors")).unwrap();
    place
}

const JOBS: [([&str; 4], &str); 3] = [
    (["compress", "in", "-o", "disk/out"], "disk/out"),
    (["decompress", "packed", "-o", "disk/out"], "disk/out"),
    (["compress", "model", "-o", "disk/folder"], "disk/folder/model.safetensors"),
];

#[test]
fn full_disks_leave_nothing() {
    let place = start_both();
    for (args, path) in JOBS {
        let Some(said) = mounted(&place, true, "mount -t tmpfs -o size=1m none disk", &args) else {
            return;
        };
        assert!(has_no_space(&said, path) && said.contains("No space left on device"), "{said}");
        // The file system has no inode left.
        let few = "mount -t tmpfs -o size=9m,nr_inodes=3 none disk";
        let said = mounted(&place, true, few, &args).unwrap();
        assert!(has_no_space(&said, path.trim_end_matches("/model.safetensors")), "{said}");
    }
}

/// The file system accepts all writes, and runs out of space only when they reach the disk behind it.
#[test]
fn disks_that_fill_up_at_last_leave_nothing() {
    let place = start_both();
    let mount = "mkdir -p small && mount -t tmpfs -o size=1m none small &&
        truncate -s 32m small/image && mkfs.ext2 -q -F small/image && mount -o loop small/image disk";
    for (args, path) in JOBS {
        let Some(said) = mounted(&place, false, mount, &args) else { return };
        assert!(said.starts_with(&format!("error: {path}: ")) && said.lines().count() == 1);
        assert!(said.contains("no space for it") || said.contains("cannot write: "), "{said}");
    }
}

#[test]
fn read_only_places_are_refused_before_the_work() {
    let place = start_both();
    let mount = "before='mount -o remount,bind,ro disk'; mount -t tmpfs none disk";
    for (args, path) in JOBS {
        let Some(said) = mounted(&place, true, mount, &args) else { return };
        let path = path.trim_end_matches("/model.safetensors");
        assert!(said.starts_with(&format!("error: {path}: cannot write: Read-only")), "{said}");
    }
}
