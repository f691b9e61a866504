//! Where the agent listens, and where it says so.

use std::net::SocketAddr;
use std::path::Path;

use daemon::causes::with_causes;
use eyre::WrapErr as _;
use tokio::net::TcpListener;

/// The gateway's URL is registered on chain: where any free port will do, the one of the last run is taken again.
pub(super) async fn bind_gateway(listen: SocketAddr, directory: &Path) -> eyre::Result<(TcpListener, SocketAddr)> {
    const PURPOSE: &str = "the gateway";
    let file = directory.join("gateway-port");
    let last = std::fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let bound = match last.filter(|_| listen.port() == 0) {
        Some(port) => match daemon::http::bind(SocketAddr::new(listen.ip(), port), PURPOSE).await {
            Ok(bound) => bound,
            Err(error) => {
                tracing::warn!(
                    error = with_causes(&error),
                    "the gateway gets another port; register its new URL"
                );
                daemon::http::bind(listen, PURPOSE).await?
            }
        },
        None => daemon::http::bind(listen, PURPOSE).await?,
    };
    let port = bound.1.port();
    // What stands there already needs no room: a full disk is no reason to stay away.
    if last != Some(port) {
        write_whole(&file, &port.to_string()).wrap_err("cannot remember the gateway's port")?;
    }
    Ok(bound)
}

/// For whoever looks for this agent. The agent itself does without it: a full disk is no reason to stay away.
pub(super) fn write_addresses(directory: &Path, addresses: &str) {
    let file = directory.join("addresses.json");
    if let Err(error) = write_whole(&file, addresses) {
        tracing::warn!(error = with_causes(&error), "cannot write {}", file.display());
        // The last run's would mislead.
        std::fs::remove_file(&file).ok();
    }
}

/// Whole or not at all: others read it while it is written.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_known_already_is_not_written_again() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let (listener, first) = bind_gateway(any, directory.path()).await.expect("a free port");
        drop(listener);
        // As on a full disk, nothing can be written: the draft's place is taken.
        std::fs::create_dir(directory.path().join("gateway-port.new")).expect("a folder");
        let (listener, again) = bind_gateway(any, directory.path()).await.expect("the same port");
        assert_eq!(again, first);
        // Another one has to be.
        let taken = bind_gateway(any, directory.path()).await.map(|(_, address)| address);
        assert!(taken.is_err(), "{taken:?} was not remembered");
        drop(listener);
    }
}
