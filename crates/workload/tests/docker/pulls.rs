//! Pulls of leases that share an engine, from registries made for it.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::RemoveImageOptionsBuilder;
use manifest::{Manifest, PullPolicy};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use workload::{Assignment, Engine, LeaseId};

use crate::support::{Provider, run_on, unique, until, with_provider};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const IDLE: &str = "exec sleep 3600";
/// As many layers as an engine downloads at a time, whoever they are for.
const LAYERS: usize = 3;
/// Size of a layer that is sent piece by piece.
const LARGE: usize = 64 << 20;
/// The engine's own downloads are few, and these tests take them all.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A lease of an account that has no other.
fn lease(account: u64) -> LeaseId {
    LeaseId(account << 32 | 1)
}

/// A registry on this machine: engines speak plain HTTP to it.
struct Registry {
    address: String,
    /// Requests for layers: the repository, and the bytes that were sent so far.
    asked: Arc<Asked>,
}

type Asked = Mutex<Vec<(String, usize)>>;

impl Registry {
    /// Repositories whose layers were asked for, in the order of the requests.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|(repository, _)| repository.clone()).collect()
    }

    /// Bytes of layers.
    fn sent(&self) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|(_, sent)| sent).sum()
    }
}

/// How a layer is sent.
enum Bytes {
    Whole(Vec<u8>),
    Pieces(usize),
}

/// What a registry answers.
#[derive(Default)]
struct Content {
    /// By path: content type and body.
    documents: HashMap<String, (&'static str, Vec<u8>)>,
    /// By path: the repository too.
    layers: HashMap<String, (String, Bytes)>,
}

impl Content {
    /// An image whose layers are sent in pieces of so many bytes.
    fn add_pieces(&mut self, repository: &str, layers: usize, piece: usize) {
        let layers: Vec<_> = (0..layers)
            .map(|layer| digest(format!("{repository} {layer} {}", unique()).as_bytes()))
            .map(|digest| (digest, Bytes::Pieces(piece)))
            .collect();
        self.add(repository, layers);
    }

    /// An image with a shell.
    fn add_whole(&mut self, repository: &str) {
        let layer = layer_with_a_shell();
        self.add(repository, vec![(digest(&layer), Bytes::Whole(layer))]);
    }

    fn add(&mut self, repository: &str, layers: Vec<(String, Bytes)>) {
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let ids: Vec<&String> = layers.iter().map(|(digest, _)| digest).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": ids },
        })
        .to_string()
        .into_bytes();
        let described: Vec<_> = layers
            .iter()
            .map(|(digest, bytes)| {
                serde_json::json!({
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": match bytes { Bytes::Whole(bytes) => bytes.len(), Bytes::Pieces(_) => LARGE },
                    "digest": digest,
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": described,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(), "digest": digest(&config),
            },
        })
        .to_string()
        .into_bytes();
        let blob = |digest: &str| format!("/v2/{repository}/blobs/{digest}");
        for name in ["1".to_owned(), digest(&manifest)] {
            let path = format!("/v2/{repository}/manifests/{name}");
            self.documents.insert(path, (MANIFEST, manifest.clone()));
        }
        self.documents
            .insert(blob(&digest(&config)), ("application/octet-stream", config));
        for (digest, bytes) in layers {
            self.layers.insert(blob(&digest), (repository.to_owned(), bytes));
        }
    }

    async fn serve(self) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::<Asked>::default();
        let (content, noted) = (Arc::new(self), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (content, noted) = (Arc::clone(&content), Arc::clone(&noted));
                // The engine hangs up when it likes.
                tokio::spawn(async move { content.answer(stream, &noted).await.ok() });
            }
        });
        Registry { address, asked }
    }

    async fn answer(&self, stream: TcpStream, noted: &Asked) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        // The engine tries TLS first, whose records begin with this.
        if stream.fill_buf().await?.first() == Some(&0x16) {
            return Ok(());
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let stream = stream.get_mut();
        if let Some((repository, bytes)) = self.layers.get(path) {
            return send_layer(stream, repository, bytes, noted).await;
        }
        let empty = ("text/plain", Vec::new());
        let (status, (kind, body)) = match self.documents.get(path) {
            Some(answer) => ("200 OK", answer),
            None if path == "/v2/" => ("200 OK", &empty),
            None => ("404 Not Found", &empty),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ndocker-content-digest: {}\r\n\r\n",
            body.len(),
            digest(body)
        );
        stream.write_all(head.as_bytes()).await?;
        if method != "HEAD" {
            stream.write_all(body).await?;
        }
        stream.shutdown().await
    }
}

async fn send_layer(stream: &mut TcpStream, repository: &str, bytes: &Bytes, noted: &Asked) -> std::io::Result<()> {
    let noted = || noted.lock().unwrap_or_else(PoisonError::into_inner);
    let request = {
        let mut noted = noted();
        noted.push((repository.to_owned(), 0));
        noted.len() - 1
    };
    let (length, piece) = match bytes {
        Bytes::Whole(bytes) => (bytes.len(), bytes.clone()),
        Bytes::Pieces(piece) => (LARGE, vec![0; *piece]),
    };
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    let mut sent = 0;
    while sent < length {
        pace.tick().await;
        stream.write_all(&piece).await?;
        sent += piece.len();
        noted()[request].1 = sent;
    }
    stream.shutdown().await
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer with a shell, which no engine has.
fn layer_with_a_shell() -> Vec<u8> {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path();
    std::fs::create_dir(path.join("bin")).expect("a folder");
    std::fs::copy("/bin/busybox", path.join("bin/busybox"))
        .expect("/bin/busybox: run script/setup, or apt-get install busybox-static");
    for applet in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", path.join("bin").join(applet)).expect("a link");
    }
    std::fs::write(path.join("unique"), unique().to_string()).expect("a file");
    archive(path)
}

fn archive(path: &Path) -> Vec<u8> {
    let archive = Command::new("tar")
        .args(["-C", path.to_str().expect("a plain path"), "-c", "."])
        .output()
        .expect("tar runs");
    assert!(archive.status.success());
    archive.stdout
}

/// Has the services pull from these repositories, in the services' order.
fn pull_from(manifest: &mut Manifest, registry: &Registry, repositories: &[&str]) {
    for (service, repository) in manifest.services.values_mut().zip(repositories) {
        service.image = format!("{}/{repository}:1", registry.address);
        service.pull_policy = PullPolicy::Always;
    }
}

/// The image of [`Content::add_whole`], which later tests do without.
async fn remove_image(provider: &Provider, registry: &Registry) {
    let image = format!("{}/app:1", registry.address);
    let forced = RemoveImageOptionsBuilder::new().force(true).build();
    provider
        .docker
        .remove_image(&image, Some(forced), None)
        .await
        .expect("the image can be removed");
}

/// A lease whose registry drips takes neither all turns here nor all downloads of the engine from another lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_drips_keeps_no_other_lease_waiting() {
    let _line = ONE_AT_A_TIME.lock().await;
    with_provider(async |provider| {
        let (greedy, other) = (lease(71), lease(72));
        let repositories = ["a", "b", "c"];
        let mut content = Content::default();
        for repository in repositories {
            content.add_pieces(repository, LAYERS, 1);
        }
        let dripping = content.serve().await;
        let mut content = Content::default();
        content.add_whole("app");
        let honest = content.serve().await;

        let engine = provider.again(|settings| settings.pull.slow_after = Duration::from_secs(2));
        let mut manifest = provider.manifest(&[("a", IDLE, &[]), ("b", IDLE, &[]), ("c", IDLE, &[])]);
        pull_from(&mut manifest, &dripping, &repositories);
        engine
            .apply(greedy, &manifest, &Assignment::default())
            .await
            .expect("pulls begin");
        until("the engine to be busy with layers that drip", || async {
            (dripping.asked().len() >= LAYERS).then_some(())
        })
        .await;

        let mut manifest = provider.manifest(&[("app", IDLE, &[])]);
        pull_from(&mut manifest, &honest, &["app"]);
        run_on(&engine, other, &manifest, &Assignment::default()).await;

        let status = engine
            .status(greedy)
            .await
            .expect("the engine answers")
            .expect("the lease");
        let said = format!("{status:?}");
        assert!(said.contains("while other leases waited"), "nobody is told why: {said}");
        engine.remove(greedy).await.expect("the lease can be removed");
        engine.remove(other).await.expect("the lease can be removed");
        remove_image(&provider, &honest).await;
    })
    .await;
}

/// Who gave its turn away goes behind those that did not, and nobody else gives way to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_gave_way_is_behind_those_that_came_later() {
    let _line = ONE_AT_A_TIME.lock().await;
    with_provider(async |provider| {
        let (first, second, last) = (lease(73), lease(74), lease(75));
        let mut content = Content::default();
        content.add_pieces("first", 1, 1);
        content.add_pieces("second", 1, 1);
        content.add_whole("app");
        let registry = content.serve().await;
        let engine = provider.again(|settings| {
            settings.pull.parallel = 1;
            settings.pull.slow_after = Duration::from_secs(1);
        });
        for (asked, (lease, repository)) in (1..).zip([(first, "first"), (second, "second")]) {
            let mut manifest = provider.manifest(&[("web", IDLE, &[])]);
            pull_from(&mut manifest, &registry, &[repository]);
            engine
                .apply(lease, &manifest, &Assignment::default())
                .await
                .expect("a pull begins");
            until("the pull to have its turn", || async {
                (registry.asked().len() >= asked).then_some(())
            })
            .await;
        }
        let mut manifest = provider.manifest(&[("app", IDLE, &[])]);
        pull_from(&mut manifest, &registry, &["app"]);
        run_on(&engine, last, &manifest, &Assignment::default()).await;
        let asked = registry.asked();
        assert_eq!(asked[..3], ["first", "second", "app"], "{asked:?}");
        for lease in [first, second, last] {
            engine.remove(lease).await.expect("the lease can be removed");
        }
        remove_image(&provider, &registry).await;
    })
    .await;
}

/// The deadline is for the registry, not for those that are first in line.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_waits_for_its_turn_uses_up_none_of_its_time() {
    let _line = ONE_AT_A_TIME.lock().await;
    with_provider(async |provider| {
        let (greedy, other) = (lease(76), lease(77));
        let mut content = Content::default();
        content.add_pieces("a", 1, 1);
        content.add_pieces("b", 1, 1);
        content.add_whole("app");
        let registry = content.serve().await;
        let engine = provider.again(|settings| {
            settings.pull.parallel = 1;
            settings.pull.deadline = Duration::from_secs(10);
        });
        let mut manifest = provider.manifest(&[("a", IDLE, &[]), ("b", IDLE, &[])]);
        pull_from(&mut manifest, &registry, &["a", "b"]);
        engine
            .apply(greedy, &manifest, &Assignment::default())
            .await
            .expect("pulls begin");
        let mut manifest = provider.manifest(&[("app", IDLE, &[])]);
        pull_from(&mut manifest, &registry, &["app"]);
        run_on(&engine, other, &manifest, &Assignment::default()).await;
        let asked = registry.asked();
        assert!(
            matches!(asked.as_slice(), [_, _, last] if last == "app"),
            "it was to wait for both: {asked:?}"
        );
        engine.remove(greedy).await.expect("the lease can be removed");
        engine.remove(other).await.expect("the lease can be removed");
        remove_image(&provider, &registry).await;
    })
    .await;
}

/// A registry cannot be blamed for silence while the engine downloads others' layers.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_the_engine_holds_up_is_not_ended_for_its_silence() {
    const IDLE_DEADLINE: Duration = Duration::from_secs(6);
    const PIECE: usize = 1 << 20;
    let _line = ONE_AT_A_TIME.lock().await;
    with_provider(async |provider| {
        let (large, other) = (lease(78), lease(79));
        let mut content = Content::default();
        content.add_pieces("large", LAYERS, PIECE);
        content.add_whole("app");
        let registry = content.serve().await;
        let engine = provider.again(|settings| settings.pull.idle_deadline = IDLE_DEADLINE);
        let mut manifest = provider.manifest(&[("web", IDLE, &[])]);
        pull_from(&mut manifest, &registry, &["large"]);
        engine
            .apply(large, &manifest, &Assignment::default())
            .await
            .expect("a pull begins");
        until("the engine to be busy with a large image", || async {
            (registry.asked().len() >= LAYERS).then_some(())
        })
        .await;
        let mut manifest = provider.manifest(&[("app", IDLE, &[])]);
        pull_from(&mut manifest, &registry, &["app"]);
        engine
            .apply(other, &manifest, &Assignment::default())
            .await
            .expect("a pull begins");
        // Five pieces a second of each layer.
        let enough = registry.sent() + (IDLE_DEADLINE.as_secs() as usize + 2) * 5 * LAYERS * PIECE;
        until(
            "the large image to go on for longer than a registry may be silent",
            || async { (registry.sent() >= enough).then_some(()) },
        )
        .await;
        let status = engine.status(other).await.expect("the engine answers");
        let said = format!("{:?}", status.expect("the lease"));
        assert!(said.contains("Pulling") && said.contains("last_error: None"), "{said}");
        engine.remove(large).await.expect("the lease can be removed");
        run_on(&engine, other, &manifest, &Assignment::default()).await;
        engine.remove(other).await.expect("the lease can be removed");
        remove_image(&provider, &registry).await;
    })
    .await;
}
