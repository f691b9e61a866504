//! What a lease's container cannot reach. Every forbidden place has a listener that the host itself can reach.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use eyre::{OptionExt as _, WrapErr as _, ensure};
use system_tests::{LocalAddress, Network, Proxy, Sharing, container, eventually, example, get, on_devnet, reaches};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_reaches_its_lease_and_nothing_of_the_host() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let user = network.user("user-1").await?;
            network.deployed(&user, &example("two-services.icl.yaml")).await?;
            let own = network.running(2).await?;
            let neighbour = network.deployed(&user, &example("hello.icl.yaml")).await?;
            get(neighbour.url()?).await?;
            let all = network.running(3).await?;
            let other = all
                .iter()
                .find(|other| !own.contains(other))
                .ok_or_eyre("the neighbour has a container")?;
            let web = own
                .iter()
                .find(|own| own.name.contains("web"))
                .ok_or_eyre("a container is named for its service")?;

            let targets = forbidden(network, &web.name, &other.name, neighbour.url()?).await?;
            for (what, address) in &targets.places {
                connect(*address)
                    .await
                    .wrap_err_with(|| format!("the host itself does not reach {what} ({address})"))?;
            }
            // A probe waits two seconds, which a busy machine may take.
            eventually("a container to reach a service of its own lease", async || {
                Ok(reaches(&web.name, "backend", 8080).await?.then_some(()))
            })
            .await?;
            let tries = targets.places.iter().map(async |(what, address)| {
                let reached = reaches(&web.name, &address.ip().to_string(), address.port()).await?;
                ensure!(!reached, "a container reached {what} ({address})");
                Ok(())
            });
            futures::future::try_join_all(tries).await.map(drop)
        },
    )
    .await
}

struct Targets {
    places: Vec<(&'static str, SocketAddr)>,
    _listeners: Vec<Proxy>,
    _addresses: Vec<LocalAddress>,
}

async fn forbidden(network: &Network, own: &str, neighbour: &str, published: &str) -> eyre::Result<Targets> {
    let (own, neighbour) = (container(own).await?, container(neighbour).await?);
    let bridge: Ipv4Addr = own.gateway.parse()?;
    let other_bridge: Ipv4Addr = neighbour.gateway.parse()?;
    let published: SocketAddr = published.trim_start_matches("http://").trim_end_matches('/').parse()?;

    // What agents and chain serve on loopback, on every address of the host: as if somebody had configured it so.
    let gateway = network.devnet.agents.values().find_map(|agent| agent.bound()?.gateway);
    let (gateway_door, chain_door) = (everywhere().await?, everywhere().await?);
    gateway_door.lead_to(gateway.ok_or_eyre("a provider has a gateway")?);
    chain_door.lead_to(network.devnet.anvil.url.trim_start_matches("http://"));

    // Other tests may run at the same time.
    let byte = (std::process::id() % 250) as u8 + 1;
    let link_local = LocalAddress::add(Ipv4Addr::new(169, 254, 78, byte))?;
    let private = LocalAddress::add(Ipv4Addr::new(10, 215, 78, byte))?;
    let (on_link_local, on_private) = (
        listen(link_local.ip(), &chain_door).await?,
        listen(private.ip(), &chain_door).await?,
    );

    let places = vec![
        (
            "the host's manifest gateway by the lease's bridge",
            SocketAddr::from((bridge, gateway_door.address.port())),
        ),
        (
            "the manifest gateway by the neighbour's bridge",
            SocketAddr::from((other_bridge, gateway_door.address.port())),
        ),
        (
            "the chain's endpoint by the lease's bridge",
            SocketAddr::from((bridge, chain_door.address.port())),
        ),
        ("a link-local address", on_link_local.address),
        ("a private address", on_private.address),
        (
            "a neighbour's container",
            SocketAddr::from((neighbour.address.parse::<Ipv4Addr>()?, 8080)),
        ),
        (
            "a neighbour's published port by the lease's bridge",
            SocketAddr::from((bridge, published.port())),
        ),
        (
            "a neighbour's published port by its own bridge",
            SocketAddr::from((other_bridge, published.port())),
        ),
    ];
    Ok(Targets {
        places,
        _listeners: vec![gateway_door, chain_door, on_link_local, on_private],
        _addresses: vec![link_local, private],
    })
}

async fn everywhere() -> eyre::Result<Proxy> {
    Proxy::start(Ipv4Addr::UNSPECIFIED).await
}

async fn listen(address: Ipv4Addr, beside: &Proxy) -> eyre::Result<Proxy> {
    let listener = Proxy::start(address).await?;
    listener.lead_to(format!("127.0.0.1:{}", beside.address.port()));
    Ok(listener)
}

async fn connect(address: SocketAddr) -> eyre::Result<()> {
    tokio::time::timeout(Duration::from_secs(60), TcpStream::connect(address)).await??;
    Ok(())
}
