//! What `script/devnet` can be asked for. The result goes to stdout, everything else to stderr.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use devnet::plan::Plan;
use devnet::{Devnet, Options, bench, demo, table};
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

/// How long `down` waits for a devnet to go.
const DOWN_DEADLINE: Duration = Duration::from_secs(60);

/// The whole network on one machine: anvil with the real EigenLayer, our contracts, operators, aggregators, providers.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    script/devnet                  start it and keep it running until Ctrl-C\n  \
    script/devnet up --plan anvil-config/one-quorum.toml   another network\n  \
    script/devnet demo             one order through its whole life, every stage checked\n  \
    script/devnet demo --json      the same as one JSON object on stdout\n  \
    script/devnet status           what runs\n  \
    script/devnet down             stop it from another terminal"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) log: daemon::telemetry::LogArguments,
    /// One JSON object on stdout instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Another network than anvil-config/devnet.toml.
    #[arg(long, global = true, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Where the devnet writes everything.
    #[arg(long, global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The repository.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SPHERON_REPOSITORY",
        default_value = "."
    )]
    repository: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start it and keep it running until Ctrl-C (the default).
    Up,
    /// Run one order through its whole life on a devnet of its own, and check every stage.
    Demo {
        /// The deployment file.
        #[arg(default_value = "examples/hello.icl.yaml")]
        file: PathBuf,
    },
    /// Show what runs.
    Status,
    /// Stop the running devnet.
    Down,
    /// Pay the running devnet's operators, as EigenLayer's rewards updater does: one claim file each, beside devnet.json.
    Rewards {
        /// Move the clock past the next midnight first: EigenLayer pays for whole days. Leases are billed for it, or end.
        #[arg(long)]
        next_day: bool,
    },
    /// Measure something on a devnet of its own.
    Bench {
        /// `latency`, `idle` or `burst`; every one when absent.
        name: Option<String>,
    },
}

pub(crate) fn failed(error: &eyre::Report) -> ExitCode {
    writeln!(std::io::stderr(), "devnet: {error:#}").ok();
    ExitCode::FAILURE
}

pub(crate) async fn run(arguments: Arguments) -> eyre::Result<ExitCode> {
    match arguments.command.as_ref().unwrap_or(&Command::Up) {
        Command::Up => up(&arguments).await,
        Command::Demo { file } => run_demo(&arguments, file).await,
        Command::Status => status(&arguments),
        Command::Down => down(&arguments).await,
        Command::Rewards { next_day } => rewards(&arguments, *next_day).await,
        Command::Bench { name } => run_benches(&arguments, name.as_deref()).await,
    }
}

async fn up(arguments: &Arguments) -> eyre::Result<ExitCode> {
    let options = options(arguments, "devnet")?;
    let directory = options.directory.clone();
    let _running = claim(&directory)?;
    let started = Instant::now();
    let Some(devnet) = start(options).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    say(&format!("ready in {:.1} s\n", started.elapsed().as_secs_f64()));
    let published = publish(&devnet.network_file())?;
    let file: Value = serde_json::from_slice(&fs::read(devnet.network_file())?)?;
    let mut stdout = std::io::stdout().lock();
    if arguments.json {
        writeln!(stdout, "{file}")?;
    } else {
        write!(stdout, "{}", table::render(&file, &devnet.network_file()))?;
    }
    stdout.flush()?;
    drop(stdout);

    let outcome = watch(devnet).await;
    fs::remove_file(published).ok();
    outcome
}

/// Starts a devnet; `None` when it was asked to stop meanwhile.
async fn start(options: Options) -> eyre::Result<Option<Devnet>> {
    let (directory, docker, plan) = (
        options.directory.clone(),
        options.docker_socket.clone(),
        options.plan.clone(),
    );
    tokio::select! {
        devnet = Devnet::start(options, |line| say(&format!("  {line}\n"))) => match devnet {
            Ok(devnet) => Ok(Some(devnet)),
            Err(error) => {
                sweep(&directory, &plan, docker.as_deref()).await;
                Err(error)
            }
        },
        () = interrupted() => {
            say("stopping before everything ran\n");
            sweep(&directory, &plan, docker.as_deref()).await;
            Ok(None)
        }
    }
}

/// Removes what a start that did not finish left on the engine. Best effort: the failure that led here is what is reported.
async fn sweep(directory: &Path, plan: &Plan, docker: Option<&str>) {
    let providers: Vec<_> = plan
        .providers
        .iter()
        .map(|provider| devnet::plan::address(&provider.name))
        .collect();
    let id = devnet::agents::devnet_id(directory);
    if let Err(error) = devnet::sweep::remove(&id, &providers, docker).await {
        tracing::debug!(%error, "nothing swept");
    }
}

/// Keeps the devnet until it is asked to stop or a process of it ends.
async fn watch(mut devnet: Devnet) -> eyre::Result<ExitCode> {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let stop = interrupted();
    tokio::pin!(stop);
    let failure = loop {
        tokio::select! {
            () = &mut stop => break None,
            _ = tick.tick() => if let Err(error) = devnet.check_processes() { break Some(error) },
        }
    };
    say("\nstopping\n");
    devnet.stop().await?;
    match failure {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn run_demo(arguments: &Arguments, file: &Path) -> eyre::Result<ExitCode> {
    let directory = tempfile::Builder::new().prefix("spheron-demo-").tempdir()?;
    let options = Options {
        directory: directory.path().to_owned(),
        ..options(arguments, "demo")?
    };
    let Some(devnet) = start(options).await? else {
        return Ok(ExitCode::FAILURE);
    };
    say("\none order:\n");
    let outcome = tokio::select! {
        outcome = demo::run(&devnet, file, "user-1") => outcome,
        () = interrupted() => demo::Outcome { error: Some("interrupted".into()), ..Default::default() },
    };
    let logs = devnet.options.directory.join("logs");
    let stopped = devnet.stop().await;
    let passed = outcome.passed && stopped.is_ok();
    if !passed {
        // Kept, because the failure has to be understood.
        let kept = directory.keep();
        say(&format!(
            "everything the devnet wrote is kept in {}, logs in {}\n",
            kept.display(),
            logs.display()
        ));
    }
    let outcome = demo::Outcome { passed, ..outcome };
    if arguments.json {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    } else if passed {
        writeln!(
            std::io::stdout(),
            "passed: ordered, matched, served at {} (until it was closed) and paid",
            outcome.url.as_deref().unwrap_or_default()
        )?;
    }
    if let Some(error) = &outcome.error {
        say(&format!("failed: {error}\n"));
    }
    stopped?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_benches(arguments: &Arguments, name: Option<&str>) -> eyre::Result<ExitCode> {
    let benches = match name {
        Some(name) => vec![bench::Bench::named(name)?],
        None => bench::Bench::ALL.to_vec(),
    };
    for bench in benches {
        let done = run_bench(arguments, bench).await?;
        if done != ExitCode::SUCCESS {
            return Ok(done);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_bench(arguments: &Arguments, bench: bench::Bench) -> eyre::Result<ExitCode> {
    let directory = tempfile::Builder::new().prefix("spheron-bench-").tempdir()?;
    let mut options = Options {
        directory: directory.path().to_owned(),
        ..options(arguments, "bench")?
    };
    bench.prepare(&mut options);
    let Some(devnet) = start(options).await? else {
        return Ok(ExitCode::FAILURE);
    };
    let results = bench.run(&devnet).await;
    devnet.stop().await?;
    for result in results? {
        let mut stdout = std::io::stdout();
        if arguments.json {
            writeln!(stdout, "{}", serde_json::to_string(&result)?)?
        } else {
            writeln!(stdout, "{result}")?
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(arguments: &Arguments) -> eyre::Result<ExitCode> {
    let path = directory(arguments)?.join("devnet.json");
    let Ok(text) = fs::read(&path) else {
        if arguments.json {
            writeln!(std::io::stdout(), "{}", serde_json::json!({"running": false}))?;
        }
        say("no devnet runs here: start it with script/devnet\n");
        return Ok(ExitCode::FAILURE);
    };
    let file: Value = serde_json::from_slice(&text).wrap_err_with(|| format!("{} is damaged", path.display()))?;
    let mut stdout = std::io::stdout();
    if arguments.json {
        writeln!(stdout, "{file}")?
    } else {
        write!(stdout, "{}", table::render(&file, &path))?
    }
    Ok(ExitCode::SUCCESS)
}

async fn rewards(arguments: &Arguments, next_day: bool) -> eyre::Result<ExitCode> {
    let path = directory(arguments)?.join("devnet.json");
    let posted = devnet::rewards::of_running(&path, next_day).await?;
    let mut stdout = std::io::stdout();
    if arguments.json {
        writeln!(stdout, "{}", serde_json::to_string(&posted)?)?
    } else {
        writeln!(stdout, "{posted}")?
    }
    Ok(ExitCode::SUCCESS)
}

async fn down(arguments: &Arguments) -> eyre::Result<ExitCode> {
    let path = claim_file(&directory(arguments)?);
    let Some(id) = fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
    else {
        say("no devnet runs here\n");
        return Ok(ExitCode::SUCCESS);
    };
    if !is_devnet(id) {
        fs::remove_file(&path).ok();
        say("the devnet that ran here is gone already\n");
        return Ok(ExitCode::SUCCESS);
    }
    kill(Pid::from_raw(id), Signal::SIGTERM).wrap_err("cannot ask the devnet to stop")?;
    let deadline = Instant::now() + DOWN_DEADLINE;
    while is_devnet(id) {
        ensure!(
            Instant::now() < deadline,
            "the devnet (pid {id}) did not stop within {} s",
            DOWN_DEADLINE.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(ExitCode::SUCCESS)
}

fn options(arguments: &Arguments, what: &str) -> eyre::Result<Options> {
    let repository = arguments
        .repository
        .canonicalize()
        .wrap_err_with(|| format!("the repository {} is not there", arguments.repository.display()))?;
    ensure!(
        repository.join("anvil-config/devnet.toml").is_file(),
        "{} is not the repository: run {what} through script/devnet, or pass --repository",
        repository.display()
    );
    let binaries = std::env::current_exe()?
        .parent()
        .ok_or_eyre("a program lies in a folder")?
        .to_owned();
    check_binaries(&binaries)?;
    let mut options = Options::new(directory(arguments)?, binaries, repository);
    if let Some(plan) = &arguments.plan {
        options.plan = Plan::load(plan)?;
    }
    Ok(options)
}

/// What `script/devnet` builds together must be there together.
fn check_binaries(binaries: &Path) -> eyre::Result<()> {
    for name in ["operator", "aggregator", "provider-agent", "spheron"] {
        ensure!(
            binaries.join(name).is_file(),
            "{} is missing: script/devnet builds it",
            binaries.join(name).display()
        );
    }
    Ok(())
}

fn directory(arguments: &Arguments) -> eyre::Result<PathBuf> {
    match &arguments.directory {
        Some(directory) => Ok(std::path::absolute(directory)?),
        None => Ok(std::path::absolute(&arguments.repository)?.join(".local/devnet")),
    }
}

fn claim_file(directory: &Path) -> PathBuf {
    directory.join("devnet.pid")
}

/// Marks the directory as ours, so that two devnets do not share one.
struct Claim(PathBuf);

impl Drop for Claim {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn claim(directory: &Path) -> eyre::Result<Claim> {
    fs::create_dir_all(directory).wrap_err_with(|| format!("cannot create {}", directory.display()))?;
    let path = claim_file(directory);
    if let Some(id) = fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
        && is_devnet(id)
    {
        bail!("a devnet runs here already (pid {id}): stop it with script/devnet down, or pass --directory");
    }
    // What an earlier devnet wrote belongs to a chain that is gone.
    for entry in fs::read_dir(directory)? {
        let entry = entry?.path();
        if entry.is_dir() {
            fs::remove_dir_all(&entry)?
        } else {
            fs::remove_file(&entry)?
        }
    }
    fs::write(&path, std::process::id().to_string())?;
    Ok(Claim(path))
}

fn is_devnet(id: i32) -> bool {
    fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "devnet")
}

/// Makes the running devnet the command line's default network.
fn publish(file: &Path) -> eyre::Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    let folder = state
        .ok_or_eyre("neither XDG_STATE_HOME nor HOME is set")?
        .join("spheron");
    fs::create_dir_all(&folder).wrap_err_with(|| format!("cannot create {}", folder.display()))?;
    let link = folder.join("devnet.json");
    fs::remove_file(&link).ok();
    symlink(file, &link).wrap_err_with(|| format!("cannot write {}", link.display()))?;
    Ok(link)
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn say(text: &str) {
    let mut stderr = std::io::stderr();
    // Progress for people; nothing depends on it being written.
    write!(stderr, "{text}").and_then(|()| stderr.flush()).ok();
}
