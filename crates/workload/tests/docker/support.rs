//! A provider of its own for every test, an image made from busybox, and waiting with a limit.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::Address;
use bollard::body_full;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions};
use daemon::causes::with_causes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use manifest::Manifest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use workload::{Applied, Assignment, Docker, Engine, LeaseId, LeaseStatus, ReplicaState, Scope, Settings};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Commands that the image has.
const APPLETS: [&str; 16] = [
    "sh", "httpd", "nc", "cat", "echo", "ls", "mkdir", "sleep", "dd", "id", "grep", "true", "date", "test", "df",
    "nslookup",
];

/// One provider on the engine.
pub(crate) struct Provider {
    pub(crate) engine: Arc<Docker>,
    pub(crate) settings: Settings,
    /// The engine itself, to look at what the provider made of it.
    pub(crate) docker: bollard::Docker,
    /// An image that exists only on this machine.
    pub(crate) image: String,
    folder: tempfile::TempDir,
}

/// Runs a test with a provider of its own, and removes all that is its own afterwards, also when the test fails.
pub(crate) async fn with_provider<F, Fut>(test: F)
where
    F: FnOnce(Arc<Provider>) -> Fut,
    Fut: Future<Output = ()>,
{
    let provider = Arc::new(Provider::new().await);
    let outcome = AssertUnwindSafe(test(Arc::clone(&provider))).catch_unwind().await;
    let removed = provider.engine.remove_all().await;
    provider
        .docker
        .remove_image(&provider.image, None::<RemoveImageOptions>, None)
        .await
        .expect("the test's image can be removed");
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    removed.expect("everything can be removed");
    provider.expect_nothing_left().await;
}

impl Provider {
    async fn new() -> Self {
        let address = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let docker = match bollard::Docker::connect_with_host(&address) {
            Ok(docker) => docker.negotiate_version().await,
            Err(error) => Err(error),
        }
        .unwrap_or_else(|error| {
            panic!("no Docker engine at {address} ({error}): run script/setup, or start dockerd and set DOCKER_HOST")
        });
        let unique = unique();
        let image = format!("workload-test-{unique:x}:1");
        import(&docker, &image).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = settings(unique, folder.path());
        Self {
            engine: Arc::new(Docker::new(settings.clone()).expect("settings are right")),
            settings,
            docker,
            image,
            folder,
        }
    }

    /// Another provider's agent on the same engine, or the same provider's after a restart.
    pub(crate) fn again(&self, change: impl FnOnce(&mut Settings)) -> Docker {
        let mut settings = self.settings.clone();
        change(&mut settings);
        Docker::new(settings).expect("settings are right")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A manifest of services that all run the test's image: name, shell script, exposed ports.
    pub(crate) fn manifest(&self, services: &[(&str, &str, &[u16])]) -> Manifest {
        let mut file = String::from("version: \"1.0\"\nservices:\n");
        for (name, script, ports) in services {
            file.push_str(&format!(
                "  {name}:\n    image: {}\n    pull_policy: IfNotPresent\n    command: [sh, -c]\n    args: [{}]\n",
                self.image,
                serde_json::to_string(script).expect("text"),
            ));
            if !ports.is_empty() {
                file.push_str("    expose:\n");
            }
            for port in *ports {
                file.push_str(&format!(
                    "      - port: {port}\n        as: {port}\n        to: [{{global: true}}]\n"
                ));
            }
        }
        file.push_str("profiles:\n  name: test\n  mode: provider\n  duration: 1h\n  compute:\n");
        for (name, _, _) in services {
            file.push_str(&format!(
                "    {name}:\n      resources:\n        cpu: {{units: 0.5}}\n        memory: {{size: 64Mi}}\n        storage: [{{size: 256Mi}}]\n"
            ));
        }
        file.push_str("  placement:\n    any:\n      pricing:\n");
        for (name, _, _) in services {
            file.push_str(&format!("        {name}: {{token: SPON, amount: 1}}\n"));
        }
        file.push_str("deployment:\n");
        for (name, _, _) in services {
            file.push_str(&format!("  {name}: {{any: {{profile: {name}, count: 1}}}}\n"));
        }
        match manifest::parse("test.yaml", file.as_bytes()) {
            Ok(deployment) => deployment.manifest,
            Err(report) => panic!("{report}\n{file}"),
        }
    }

    /// Applies until every container runs.
    pub(crate) async fn run(&self, lease: LeaseId, manifest: &Manifest) -> Applied {
        run_on(&self.engine, lease, manifest, &Assignment::default()).await
    }

    /// Runs a command in a container of a lease: its output and its exit status.
    pub(crate) async fn exec(&self, lease: LeaseId, service: &str, command: &[&str]) -> (String, i64) {
        let name = self.settings.scope.names(lease).container(service, 0);
        let options = CreateExecOptions {
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::<String>::default()
        };
        let exec = self
            .docker
            .create_exec(&name, options)
            .await
            .expect("exec is created")
            .id;
        let started = self.docker.start_exec(&exec, None).await.expect("exec starts");
        let StartExecResults::Attached { mut output, .. } = started else {
            panic!("exec is not attached");
        };
        let mut text = String::new();
        let read = async {
            while let Some(part) = output.next().await {
                text.push_str(&part.expect("exec output").to_string());
            }
        };
        tokio::time::timeout(LIMIT, read)
            .await
            .unwrap_or_else(|_| panic!("{command:?} did not end"));
        let status = self.docker.inspect_exec(&exec).await.expect("exec exists").exit_code;
        (text, status.expect("exec ended"))
    }

    /// The engine's id of a lease's container.
    pub(crate) async fn container_id(&self, lease: LeaseId, service: &str) -> String {
        let name = self.settings.scope.names(lease).container(service, 0);
        let inspected = self
            .docker
            .inspect_container(&name, None)
            .await
            .expect("the container exists");
        inspected.id.expect("containers have ids")
    }

    async fn expect_nothing_left(&self) {
        assert!(self.engine.observe().await.expect("the engine answers").is_empty());
        let tag = self.settings.scope.tag();
        for program in ["iptables", "ip6tables"] {
            let rules = firewall(program, &["-S"]);
            assert!(!rules.contains(&tag), "{program} still has rules:\n{rules}");
        }
    }
}

/// Applies until every container runs.
pub(crate) async fn run_on(engine: &Docker, lease: LeaseId, manifest: &Manifest, before: &Assignment) -> Applied {
    let mut applied = engine
        .apply(lease, manifest, before)
        .await
        .unwrap_or_else(|error| panic!("{}", with_causes(&error)));
    let deadline = Instant::now() + LIMIT;
    while !applied.status.is_ready() {
        assert!(
            Instant::now() < deadline,
            "the containers do not come to run: {:#?}",
            applied.status
        );
        assert_eq!(applied.status.failure(), None);
        wait(engine).await;
        applied = engine
            .apply(lease, manifest, &applied.assignment)
            .await
            .unwrap_or_else(|error| panic!("{}", with_causes(&error)));
    }
    applied
}

/// Until something changed, or a short while.
pub(crate) async fn wait(engine: &Docker) {
    let _ = tokio::time::timeout(Duration::from_millis(250), engine.changed()).await;
}

/// Asks until the answer is there.
pub(crate) async fn until<T, F, Fut>(awaited: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + LIMIT;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    loop {
        pace.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {} s for {awaited}", LIMIT.as_secs());
    }
}

/// The body of `/` from a web server, once it answers.
pub(crate) async fn http_get(address: &str) -> String {
    until(&format!("an answer from http://{address}/"), || async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.trim().to_owned())
    })
    .await
}

/// The state of the only replica of a service.
pub(crate) fn state<'a>(status: &'a LeaseStatus, service: &str) -> &'a ReplicaState {
    let [replica] = status.services[service].replicas.as_slice() else {
        panic!("{status:?}");
    };
    &replica.state
}

/// Runs iptables or ip6tables on the table that holds the isolation rules.
pub(crate) fn firewall(program: &str, arguments: &[&str]) -> String {
    command(program, &[&["-w", "10", "-t", "mangle"], arguments].concat())
}

/// Runs a program of the host, which must succeed.
pub(crate) fn command(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be run ({error}): run script/setup, as root"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A number that no other test on this machine has.
pub(crate) fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos() as u64;
    (time << 8) ^ (u64::from(std::process::id()) << 40) ^ COUNT.fetch_add(1, Ordering::Relaxed)
}

fn settings(unique: u64, folder: &Path) -> Settings {
    let mut provider = [0; 20];
    provider[..8].copy_from_slice(&unique.to_be_bytes());
    let scope = Scope {
        provider: Address::from(provider),
        devnet: Some(format!("test-{unique:x}")),
    };
    let mut settings = Settings::new(scope, folder);
    settings.stop_grace = Duration::ZERO;
    settings.minimum_free_bytes = 1;
    // Every test its own part of a range below the one for outgoing connections.
    static PARTS: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + 100 * (PARTS.fetch_add(1, Ordering::Relaxed) % 80) + (unique % 50) as u16;
    settings.host_ports = first..=first + 49;
    settings
}

/// Makes an image from the host's static busybox, without a registry.
async fn import(docker: &bollard::Docker, name: &str) {
    assert!(
        Path::new("/bin/busybox").exists(),
        "/bin/busybox is missing: run script/setup, or apt-get install busybox-static"
    );
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path();
    for folder in ["bin", "tmp", "data", "etc"] {
        std::fs::create_dir(path.join(folder)).expect("a folder");
    }
    std::fs::copy("/bin/busybox", path.join("bin/busybox")).expect("busybox can be copied");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", path.join("bin").join(applet)).expect("a link");
    }
    let archive = Command::new("tar")
        .args(["-C", path.to_str().expect("a plain path"), "-c", "."])
        .output()
        .expect("tar runs");
    assert!(archive.status.success());
    let (repository, tag) = name.split_once(':').expect("name:tag");
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(repository)
        .tag(tag)
        .build();
    docker
        .create_image(Some(options), Some(body_full(archive.stdout.into())), None)
        .try_collect::<Vec<_>>()
        .await
        .expect("the image can be imported");
}
