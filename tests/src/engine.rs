//! The container engine, looked at past the agents.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use eyre::{OptionExt as _, WrapErr as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::Network;
use crate::waiting::eventually;

/// Process id of the engine that the scripts started; absent when the engine is the machine's own.
const ENGINE_PROCESS: &str = "/run/spheron/dockerd.pid";

/// The container engine the tests run against.
pub async fn engine() -> eyre::Result<Docker> {
    devnet::sweep::engine(None).await
}

/// A container of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub running: bool,
}

/// Where a container is on its lease's network.
#[derive(Clone, Debug)]
pub struct Placed {
    pub address: String,
    /// The host's address on the lease's bridge.
    pub gateway: String,
}

impl Network {
    /// Containers of this devnet's leases, running or not.
    pub async fn containers(&self) -> eyre::Result<Vec<Container>> {
        let label = format!("spheron.devnet={}", self.devnet.id);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&HashMap::from([("label", vec![label.as_str()])]))
            .build();
        let found = engine().await?.list_containers(Some(options)).await?;
        let containers = found.into_iter().map(|container| {
            let name = container
                .names
                .and_then(|names| names.into_iter().next())
                .unwrap_or_default();
            Container {
                id: container.id.unwrap_or_default(),
                name: name.trim_start_matches('/').to_owned(),
                running: container.state.is_some_and(|state| state.to_string() == "running"),
            }
        });
        Ok(containers.collect())
    }

    /// Waits until the devnet has this many containers, all of them running; none of any kind for zero.
    pub async fn running(&self, count: usize) -> eyre::Result<Vec<Container>> {
        eventually(&format!("{count} running containers and no other"), async || {
            let containers = self.containers().await?;
            let all_run = containers.iter().all(|container| container.running);
            Ok((containers.len() == count && all_run).then_some(containers))
        })
        .await
    }

    /// How often the engine did something (`create`, `destroy`) to containers of this devnet.
    pub async fn happened(&self, action: &str) -> eyre::Result<usize> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 1;
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), vec![action.to_owned()]),
            ("label".to_owned(), vec![format!("spheron.devnet={}", self.devnet.id)]),
        ]);
        // An end in the future would be waited for.
        let options = EventsOptionsBuilder::default()
            .since(&self.began.to_string())
            .until(&(now - 1).to_string())
            .filters(&filters)
            .build();
        let docker = engine().await?;
        let events: Vec<_> = docker
            .events(Some(options))
            .try_collect()
            .await
            .wrap_err("the engine's events")?;
        Ok(events.len())
    }
}

/// Where a container is.
pub async fn container(name: &str) -> eyre::Result<Placed> {
    let inspected = engine().await?.inspect_container(name, None).await?;
    let networks = inspected
        .network_settings
        .and_then(|settings| settings.networks)
        .unwrap_or_default();
    let endpoint = networks
        .into_values()
        .next()
        .ok_or_eyre("a lease's container has a network")?;
    Ok(Placed {
        address: endpoint.ip_address.ok_or_eyre("a container has an address")?,
        gateway: endpoint.gateway.ok_or_eyre("a lease's bridge has an address")?,
    })
}

/// Whether a TCP connection comes about from inside a container that has busybox.
pub async fn reaches(name: &str, host: &str, port: u16) -> eyre::Result<bool> {
    let script = format!("/bin/busybox nc -w 2 {host} {port} </dev/null >/dev/null 2>&1");
    let options = CreateExecOptions {
        cmd: Some(vec![
            "/bin/busybox".to_owned(),
            "sh".to_owned(),
            "-c".to_owned(),
            script,
        ]),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::<String>::default()
    };
    let docker = engine().await?;
    let exec = docker.create_exec(name, options).await?.id;
    if let StartExecResults::Attached { mut output, .. } = docker.start_exec(&exec, None).await? {
        while output.next().await.transpose()?.is_some() {}
    }
    let status = docker.inspect_exec(&exec).await?.exit_code;
    // 126 and 127: the probe itself did not run, which would look like an unreachable address.
    ensure!(
        matches!(status, Some(0 | 1)),
        "the probe of {host}:{port} in {name} ended with {status:?}"
    );
    Ok(status == Some(0))
}

/// Kills the engine, as a crash would, and waits for the next one.
pub async fn restart() -> eyre::Result<()> {
    let before = engine_process().wrap_err(
        "this test restarts the Docker engine, and only one that the scripts started: stop the machine's own and run script/test",
    )?;
    kill(Pid::from_raw(before), Signal::SIGKILL).wrap_err("cannot kill the Docker engine")?;
    eventually("another Docker engine that answers", async || {
        let started = engine_process().is_ok_and(|process| process != before);
        Ok((started && engine().await.is_ok()).then_some(()))
    })
    .await
}

fn engine_process() -> eyre::Result<i32> {
    let text = std::fs::read_to_string(Path::new(ENGINE_PROCESS)).wrap_err(ENGINE_PROCESS)?;
    text.trim().parse().wrap_err(ENGINE_PROCESS)
}
