//! A TCP proxy: the fault of a network between an agent and its RPC endpoint, or a listener where there is none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use devnet::Options;
use eyre::{OptionExt as _, WrapErr as _};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections while it is open.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    target: Arc<std::sync::Mutex<Target>>,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug)]
enum Target {
    None,
    /// `host:port`.
    Address(String),
    /// The endpoint that a network file names by the time somebody connects.
    Chain(PathBuf),
}

impl Proxy {
    /// Listens on a free port of an address; what it leads to may be named later.
    pub async fn start(address: Ipv4Addr) -> eyre::Result<Self> {
        let listener = TcpListener::bind((IpAddr::V4(address), 0))
            .await
            .wrap_err("a port for the proxy")?;
        let address = listener.local_addr()?;
        let target = Arc::new(std::sync::Mutex::new(Target::None));
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(accept(listener, Arc::clone(&target), is_open));
        Ok(Self {
            address,
            target,
            open,
            task,
        })
    }

    /// Leads to `host:port`.
    pub fn lead_to(&self, address: impl Into<String>) {
        *self.target.lock().expect("no holder panics") = Target::Address(address.into());
    }

    /// Stands between an agent and the chain of a devnet that is about to start.
    pub fn stand_before(&self, agent: &str, options: &mut Options) {
        options.rpc.insert(agent.to_owned(), format!("http://{}", self.address));
        *self.target.lock().expect("no holder panics") = Target::Chain(options.directory.join("devnet.json"));
    }

    /// Cuts all connections, and every new one at once.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Target {
    fn address(&self) -> eyre::Result<String> {
        match self {
            Self::None => Err(eyre::eyre!("the proxy leads nowhere yet")),
            Self::Address(address) => Ok(address.clone()),
            Self::Chain(file) => {
                let network: Value = serde_json::from_slice(&std::fs::read(file)?)?;
                let url = network["rpc"][0]
                    .as_str()
                    .ok_or_eyre("a network file names an endpoint")?;
                Ok(url.trim_start_matches("http://").trim_end_matches('/').to_owned())
            }
        }
    }
}

async fn accept(listener: TcpListener, target: Arc<std::sync::Mutex<Target>>, is_open: watch::Receiver<bool>) {
    while let Ok((mut inbound, _)) = listener.accept().await {
        let target = target.lock().expect("no holder panics").clone();
        let mut is_open = is_open.clone();
        tokio::spawn(async move {
            let forward = async {
                let Ok(address) = target.address() else { return };
                let Ok(mut outbound) = TcpStream::connect(&address).await else {
                    return;
                };
                // A connection that breaks is what the proxy is for.
                let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
            };
            tokio::select! {
                () = forward => {}
                _ = is_open.wait_for(|open| !open) => {}
            }
        });
    }
}
