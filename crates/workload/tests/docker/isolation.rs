//! What a container cannot reach. Nothing leaves the machine: the addresses are bound to `lo`, and the world outside is
//! a network namespace.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpListener;
use workload::{Engine, LeaseId};

use crate::support::{Provider, command, firewall, http_get, unique, with_provider};

const WEB: &str = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www";
const IDLE: &str = "exec sleep 3600";

/// An address on `lo` that goes with the test.
struct LocalAddress(String);

impl LocalAddress {
    fn add(address: Ipv4Addr) -> Self {
        let address = format!("{address}/32");
        command("ip", &["addr", "add", &address, "dev", "lo"]);
        Self(address)
    }
}

impl Drop for LocalAddress {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["addr", "del", &self.0, "dev", "lo"]).status();
    }
}

/// A first rule in the engine's own table that accepts all that comes from a bridge and goes beyond this host.
struct LetThrough(String);

impl LetThrough {
    fn new(bridge: String) -> Self {
        let rule = Self(bridge);
        command("iptables", &rule.arguments("-I"));
        rule
    }

    fn arguments<'a>(&'a self, action: &'a str) -> [&'a str; 8] {
        ["-w", "10", action, "FORWARD", "-i", &self.0, "-j", "ACCEPT"]
    }
}

impl Drop for LetThrough {
    fn drop(&mut self) {
        let _ = Command::new("iptables").args(self.arguments("-D")).status();
    }
}

/// A host beyond this one, with a public and a private address and a web server on both.
struct Outside {
    namespace: String,
    server: Child,
    public: Ipv4Addr,
    private: Ipv4Addr,
}

impl Outside {
    fn new(folder: &Path) -> Self {
        let unique = unique();
        let byte = (unique >> 8) as u8;
        let namespace = format!("wl{:08x}", unique as u32);
        let inside = format!("wi{:08x}", unique as u32);
        let here = format!("wo{:08x}", unique as u32);
        // TEST-NET-3 and a private network; /31: this side and the other.
        let public = Ipv4Addr::new(203, 0, 113, byte | 1);
        let private = Ipv4Addr::new(10, 213, byte, byte | 1);
        let outside = |arguments: &[&str]| {
            command("ip", &[&["netns", "exec", &namespace], arguments].concat());
        };
        command("ip", &["netns", "add", &namespace]);
        command(
            "ip",
            &[
                "link", "add", &here, "type", "veth", "peer", "name", &inside, "netns", &namespace,
            ],
        );
        command("ip", &["link", "set", &here, "up"]);
        outside(&["ip", "link", "set", "lo", "up"]);
        outside(&["ip", "link", "set", &inside, "up"]);
        for address in [public, private] {
            let gateway = Ipv4Addr::from_bits(address.to_bits() & !1);
            command("ip", &["addr", "add", &format!("{gateway}/31"), "dev", &here]);
            outside(&["ip", "addr", "add", &format!("{address}/31"), "dev", &inside]);
        }
        let gateway = Ipv4Addr::from_bits(public.to_bits() & !1);
        outside(&["ip", "route", "add", "default", "via", &gateway.to_string()]);
        let server = Command::new("ip")
            .args([
                "netns",
                "exec",
                &namespace,
                "/bin/busybox",
                "httpd",
                "-f",
                "-p",
                "8080",
                "-h",
            ])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("busybox httpd starts");
        Self {
            namespace,
            server,
            public,
            private,
        }
    }

    /// What a port of this host answers to somebody out there who comes from the private address: the way leads to
    /// this side of that network.
    fn get(&self, port: u16) -> String {
        let here = Ipv4Addr::from_bits(self.private.to_bits() & !1);
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 5 {here} {port}");
        command(
            "ip",
            &["netns", "exec", &self.namespace, "/bin/busybox", "sh", "-c", &script],
        )
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// Whether a TCP connection comes about from inside a container.
async fn reaches(provider: &Provider, lease: LeaseId, host: &str, port: u16) -> bool {
    let script = format!("nc -w 2 {host} {port} < /dev/null > /dev/null 2>&1");
    provider.exec(lease, "app", &["sh", "-c", &script]).await.1 == 0
}

/// Tries targets (what they are, host, port) from inside a container, all at once.
async fn expect_each(provider: &Provider, lease: LeaseId, targets: &[(&str, String, u16)], open: bool) {
    let tries = targets.iter().map(async |(what, host, port)| {
        let reached = reaches(provider, lease, host, *port).await;
        assert_eq!(reached, open, "whether {what} ({host}:{port}) can be reached");
    });
    futures::future::join_all(tries).await;
}

/// A listener on every address of the host that answers by closing.
async fn listen_everywhere() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    port
}

async fn address_of(provider: &Provider, lease: LeaseId, service: &str) -> (String, String) {
    let id = provider.container_id(lease, service).await;
    let inspected = provider.docker.inspect_container(&id, None).await.unwrap();
    let networks = inspected.network_settings.unwrap().networks.unwrap();
    let endpoint = networks.into_values().next().expect("one network");
    (
        endpoint.ip_address.expect("an address"),
        endpoint.gateway.expect("a gateway"),
    )
}

/// The address that the host itself uses towards others; nothing is sent to find it.
fn host_address() -> Ipv4Addr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("198.51.100.1:9").expect("a route to the outside");
    match socket.local_addr().expect("bound").ip() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is no IPv4 address"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_reach_their_lease_and_the_world_and_nothing_else() {
    with_provider(async |provider| {
        let (own, neighbour) = (LeaseId(1), LeaseId(2));
        provider
            .run(own, &provider.manifest(&[("app", IDLE, &[]), ("web", WEB, &[80])]))
            .await;
        let neighbour_ports = provider
            .run(neighbour, &provider.manifest(&[("web", WEB, &[80])]))
            .await
            .assignment
            .ports;
        let neighbour_port = neighbour_ports[0].host_port;
        http_get(&format!("127.0.0.1:{neighbour_port}")).await;

        let byte = (unique() >> 8) as u8;
        let link_local = Ipv4Addr::new(169, 254, 77, byte);
        let private = Ipv4Addr::new(10, 214, 77, byte);
        let _addresses = [LocalAddress::add(link_local), LocalAddress::add(private)];
        let outside = Outside::new(provider.folder());
        let port = listen_everywhere().await;
        let (_, gateway) = address_of(&provider, own, "app").await;
        let (neighbour_address, neighbour_gateway) = address_of(&provider, neighbour, "web").await;
        let host = host_address().to_string();

        let forbidden = [
            ("the host by its gateway address", gateway.clone(), port),
            ("the host by the neighbour's gateway", neighbour_gateway, port),
            ("the host by its own address", host.clone(), port),
            ("a link-local address", link_local.to_string(), port),
            ("a private address of the host", private.to_string(), port),
            ("a neighbour's published port by the gateway", gateway, neighbour_port),
            ("a neighbour's published port by the host", host, neighbour_port),
            ("a private address beyond the host", outside.private.to_string(), 8080),
        ];
        let allowed = [
            ("a service of its own lease", "web".to_owned(), 80),
            ("a public address beyond the host", outside.public.to_string(), 8080),
        ];
        expect_each(&provider, own, &forbidden, false).await;
        assert!(
            !reaches(&provider, own, &neighbour_address, 80).await,
            "a neighbour's container can be reached"
        );
        expect_each(&provider, own, &allowed, true).await;

        // Nor while the engine's own table lets everything through, as it does for a moment at every new network.
        let bridge = provider.settings.scope.names(own).bridge();
        let let_through = LetThrough::new(bridge);
        expect_each(&provider, own, &forbidden, false).await;
        drop(let_through);

        // Answers to visitors from private networks pass.
        let answer = outside.get(neighbour_port);
        assert!(answer.contains("hello"), "{answer}");

        // Without the rules all of it is open: the checks above can fail.
        let tag = provider.settings.scope.tag();
        for chain in ["IN", "FW"] {
            firewall("iptables", &["-F", &format!("SPHERON-{chain}-{tag}")]);
        }
        expect_each(&provider, own, &forbidden, true).await;

        // The rules come back by themselves.
        let isolation = provider.engine.isolation().await;
        assert!(isolation.isolated, "{isolation:?}");
        expect_each(&provider, own, &forbidden, false).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_put_first_again_and_others_stay() {
    with_provider(async |provider| {
        let lease = LeaseId(1);
        provider.run(lease, &provider.manifest(&[("app", IDLE, &[])])).await;
        let bridge = provider.settings.scope.names(lease).bridge();
        let tag = provider.settings.scope.tag();
        let foreign = ["-i", &bridge, "-m", "comment", "--comment", &tag, "-j", "ACCEPT"];
        firewall("iptables", &[&["-I", "INPUT", "1"], foreign.as_slice()].concat());
        let jump = format!("-A INPUT -j SPHERON-IN-{tag}");
        let place = |wanted: &dyn Fn(&str) -> bool| {
            firewall("iptables", &["-S", "INPUT"])
                .lines()
                .position(wanted)
                .expect("the rule is there")
        };
        assert!(place(&|rule| rule.contains("--comment")) < place(&|rule| rule == jump));
        let isolation = provider.engine.isolation().await;
        let order = (place(&|rule| rule == jump), place(&|rule| rule.contains("--comment")));
        firewall("iptables", &[&["-D", "INPUT"], foreign.as_slice()].concat());
        assert!(isolation.isolated, "{isolation:?}");
        assert!(order.0 < order.1, "{order:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_providers_keep_their_own_rules() {
    with_provider(async |first| {
        with_provider(async |second| {
            let lease = LeaseId(1);
            first.run(lease, &first.manifest(&[("app", IDLE, &[])])).await;
            second.run(lease, &second.manifest(&[("app", IDLE, &[])])).await;
            first.engine.remove(lease).await.unwrap();
            let rules = firewall("iptables", &["-S"]);
            assert!(!rules.contains(&first.settings.scope.tag()), "{rules}");
            assert!(rules.contains(&second.settings.scope.names(lease).bridge()), "{rules}");
            assert!(second.engine.isolation().await.isolated);
        })
        .await;
    })
    .await;
}
