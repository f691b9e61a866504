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
    write_whole(&file, &bound.1.port().to_string()).wrap_err("cannot remember the gateway's port")?;
    Ok(bound)
}

/// Whole or not at all: others read it while it is written.
pub(super) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}
