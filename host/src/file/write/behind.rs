//! Writing behind the work: a thread writes what is finished while the next part is made.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use crate::file::error::FileError;
use crate::file::write::file::OutputFile;

/// Bytes to be written.
pub(in crate::file) enum Piece<'a> {
    /// Memory that [`Queue::memory`] gives back for a later piece.
    Lent(Vec<u8>),
    Mapped(&'a [u8]),
}

impl Piece<'_> {
    pub(in crate::file) fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }

    /// Returns the memory that the piece was lent; empty if it was not.
    pub(in crate::file) fn into_memory(self) -> Vec<u8> {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Mapped(_) => Vec::new(),
        }
    }
}

/// The pieces that wait for the thread that writes them: at most one, beside the one that it writes.
pub(in crate::file) struct Queue<'a> {
    pieces: SyncSender<Piece<'a>>,
    /// Memory of pieces that have been written.
    spent: Receiver<Vec<u8>>,
}

impl<'a> Queue<'a> {
    /// Adds a piece. Waits until the one before it is being written.
    ///
    /// # Errors
    /// [`Stopped`] if writing has failed. [`write_behind`] then returns the reason.
    pub(in crate::file) fn push(&self, piece: Piece<'a>) -> Result<(), Stopped> {
        self.pieces.send(piece).map_err(|_| Stopped)
    }

    /// Returns memory for the next piece, of a piece before it where one has been written. Its contents do not matter.
    pub(in crate::file) fn memory(&self) -> Vec<u8> {
        self.spent.try_recv().unwrap_or_default()
    }
}

/// Why a job ends early: nothing more can be written.
#[derive(Clone, Copy, Debug)]
pub(in crate::file) struct Stopped;

/// Why a job that writes behind has failed.
#[derive(Debug)]
pub(in crate::file) enum Failure {
    Stopped,
    Job(FileError),
}

impl From<Stopped> for Failure {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::Job(error)
    }
}

/// Runs `job`, and appends to `out` what it adds to the queue, in order, on another thread. Returns when all of it has been
/// written.
///
/// # Errors
/// Fails as `job` and as writing do.
pub(in crate::file) fn write_behind<'a, T>(
    out: &mut OutputFile,
    job: impl FnOnce(&Queue<'a>) -> Result<T, Failure>,
) -> Result<T, FileError> {
    let (pieces, waiting) = sync_channel::<Piece<'a>>(0);
    let (give_back, spent) = channel();
    let path = out.path().to_owned();
    thread::scope(|scope| {
        let write = move || -> Result<(), FileError> {
            for piece in waiting {
                out.write(piece.bytes())?;
                if let Piece::Lent(bytes) = piece {
                    // The job may be done by now.
                    let _ = give_back.send(bytes);
                }
            }
            Ok(())
        };
        let writer = thread::Builder::new().name("writer".to_owned()).spawn_scoped(scope, write);
        let writer = writer.map_err(FileError::io(&path, "start a thread to write"))?;
        let queue = Queue { pieces, spent };
        let done = job(&queue);
        drop(queue);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match done {
            Ok(done) => written.map(|()| done),
            Err(Failure::Job(error)) => Err(error),
            // Only an error ends the writer while the queue is open.
            Err(Failure::Stopped) => match written {
                Err(error) => Err(error),
                Ok(()) => unreachable!("the writer ends when the queue does"),
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pieces_are_written_in_order_and_memory_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, input) = (folder.path().join("out"), folder.path().join("in"));
        fs::write(&input, "").unwrap();
        let mut out = OutputFile::create(&path, &input).unwrap();
        let mut reused = 0;
        write_behind(&mut out, |queue| {
            for number in 0..100_u8 {
                let mut memory = queue.memory();
                reused += usize::from(memory.capacity() > 0);
                memory.clear();
                memory.push(number);
                queue.push(Piece::Lent(memory))?;
                queue.push(Piece::Mapped(b"x"))?;
            }
            Ok(())
        })
        .unwrap();
        out.commit().unwrap();
        let expected: Vec<u8> = (0..100).flat_map(|number| [number, b'x']).collect();
        assert_eq!(fs::read(&path).unwrap(), expected);
        assert!(reused > 90, "{reused}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn errors_of_the_writer_end_the_job() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        fs::write(&input, "").unwrap();
        let mut out = OutputFile::for_test(std::path::Path::new("/dev/full"));
        let mut pushed = 0;
        let error = write_behind(&mut out, |queue| -> Result<(), Failure> {
            loop {
                queue.push(Piece::Lent(vec![0; 1 << 20]))?;
                pushed += 1;
            }
        });
        assert!(matches!(error, Err(FileError::NoSpace { .. })), "{error:?}");
        assert!(pushed < 5, "{pushed}");
        let error = write_behind(&mut out, |_| -> Result<(), Failure> {
            Err(Failure::Job(FileError::NotCompressed { path: input.clone() }))
        });
        assert!(matches!(error, Err(FileError::NotCompressed { .. })), "{error:?}");
    }
}
