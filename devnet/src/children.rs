//! Child processes: each in a process group of its own (the terminal's Ctrl-C reaches the devnet alone, which stops them in
//! order), with its output in a file, and bound to our life by the kernel, so that not even `kill -9` of the devnet leaves
//! one behind.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use eyre::{WrapErr as _, bail, eyre};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a process may take to stop when asked.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

type Spawned = std::io::Result<Child>;

/// Starts processes from one thread that lives as long as the devnet: the kernel's parent-death signal follows the thread
/// that started a process, and threads of an async runtime come and go.
#[derive(Clone, Debug)]
pub struct Spawner {
    requests: mpsc::Sender<(Command, mpsc::Sender<Spawned>)>,
}

impl Spawner {
    pub fn new() -> Self {
        let (requests, received) = mpsc::channel::<(Command, mpsc::Sender<Spawned>)>();
        std::thread::spawn(move || {
            for (mut command, answer) in received {
                // The caller waits for the answer; if it is gone nobody is left to stop the child.
                if let Err(mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        });
        Self { requests }
    }

    fn spawn(&self, command: Command) -> Spawned {
        let (answer, answered) = mpsc::channel();
        let gone = || std::io::Error::other("the thread that starts processes is gone");
        self.requests.send((command, answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Default for Spawner {
    fn default() -> Self {
        Self::new()
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What people call it.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Output of all its runs.
    pub log: PathBuf,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub launch: Launch,
    child: Child,
}

impl Process {
    /// Starts it.
    pub fn start(spawner: &Spawner, launch: Launch) -> eyre::Result<Self> {
        if let Some(folder) = launch.log.parent() {
            fs::create_dir_all(folder).wrap_err_with(|| format!("cannot create {}", folder.display()))?;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&launch.log)
            .wrap_err_with(|| format!("cannot write the log {}", launch.log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&launch.program)
            .args(&launch.arguments)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().wrap_err("cannot share the log")?)
            .stderr(log)
            .process_group(0);
        let child = spawner.spawn(command).wrap_err_with(|| {
            format!(
                "cannot start {} ({}); setpriv comes with util-linux",
                launch.name,
                launch.program.display()
            )
        })?;
        Ok(Self { launch, child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub async fn finished(&mut self, limit: Duration) -> eyre::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} did not end within {} s; log: {}",
                    self.launch.name,
                    limit.as_secs(),
                    self.launch.log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> eyre::Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id()).wrap_err("process id")?);
        kill(id, signal).wrap_err_with(|| format!("cannot signal {}", self.launch.name))
    }

    /// Asks it to stop, and makes it stop at the deadline.
    pub async fn stop(&mut self) -> eyre::Result<()> {
        if self.ended().is_some() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        if self.finished(STOP_DEADLINE).await.is_ok() {
            return Ok(());
        }
        let name = self.launch.name.clone();
        self.kill()?;
        Err(eyre!(
            "{name} did not stop within {} s and was killed",
            STOP_DEADLINE.as_secs()
        ))
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) -> eyre::Result<()> {
        self.child
            .kill()
            .wrap_err_with(|| format!("cannot kill {}", self.launch.name))?;
        self.child
            .wait()
            .wrap_err_with(|| format!("cannot wait for {}", self.launch.name))?;
        Ok(())
    }

    /// How it ended and the end of its log, for error messages.
    pub fn last_words(&mut self) -> String {
        let how = match self.ended() {
            None => "is running".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit status {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
        };
        format!(
            "{} {how}; the end of {}:\n{}",
            self.launch.name,
            self.launch.log.display(),
            tail(&self.launch.log, 15)
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.kill();
        }
    }
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
