//! The Python implementation, in a process that answers a line of JSON with a line of JSON.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use alloy_primitives::U256;
use serde_json::Value;

use crate::{Answer, Case, vectors};

/// No case takes Python more than a second, on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the Python implementation.
#[derive(Debug)]
pub struct Python {
    process: Child,
    questions: ChildStdin,
    answers: Receiver<io::Result<String>>,
}

#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    #[error("python3 does not start; install Python 3.9 or later (no package is needed)")]
    Start(#[source] io::Error),
    #[error("{}: does not take questions any more; its own message is above", .script.display())]
    Ask {
        script: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: ended instead of answering; its own message is above", .script.display())]
    Ended { script: PathBuf },
    #[error("{}: no answer within {} s", .script.display(), PATIENCE.as_secs())]
    Silent { script: PathBuf },
    #[error("{}: answered {line:?}, which is not a digest word and ranks", .script.display())]
    NotAnAnswer { script: PathBuf, line: String },
}

impl Python {
    /// # Errors
    /// When there is no Python.
    pub fn start() -> Result<Self, PythonError> {
        let mut process = Command::new("python3")
            .arg(script())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(PythonError::Start)?;
        let questions = process.stdin.take().expect("stdin is piped");
        let lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let (sender, answers) = mpsc::channel();
        // Ends with the process, whose output ends then.
        thread::spawn(move || lines.into_iter().try_for_each(|line| sender.send(line)));
        Ok(Self {
            process,
            questions,
            answers,
        })
    }

    /// Asks; the answer is awaited by [`Self::answer`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn ask(&mut self, case: &Case) -> Result<(), PythonError> {
        let line = format!("{}\n", case.to_json());
        self.questions
            .write_all(line.as_bytes())
            .map_err(|source| PythonError::Ask {
                script: script(),
                source,
            })
    }

    /// The answer to the question asked.
    ///
    /// # Errors
    /// When there is none in time, or none that can be read.
    pub fn answer(&mut self) -> Result<Answer, PythonError> {
        let line = match self.answers.recv_timeout(PATIENCE) {
            Ok(Ok(line)) => line,
            Err(RecvTimeoutError::Timeout) => return Err(PythonError::Silent { script: script() }),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(PythonError::Ended { script: script() }),
        };
        read(&line).ok_or_else(|| PythonError::NotAnAnswer { script: script(), line })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn script() -> PathBuf {
    vectors().join("answer.py")
}

fn read(line: &str) -> Option<Answer> {
    let word = |value: &Value| value.as_str()?.parse::<U256>().ok();
    let answer: Value = serde_json::from_str(line).ok()?;
    let ranks = answer["ranks"].as_array()?.iter().map(word).collect::<Option<_>>()?;
    Some(Answer {
        digest_word: word(&answer["digestWord"])?,
        ranks,
    })
}
