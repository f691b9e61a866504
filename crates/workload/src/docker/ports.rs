//! Which port of the host each published port gets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use manifest::{Manifest, Protocol};

use crate::engine::Error;
use crate::model::AssignedPort;
use crate::specification::replicas;

/// Assigns a host port to every published port of a manifest. What was assigned before stays; the rest gets the first
/// port from `start` on (counted into the range, around its end) that is not `taken` and that `is_free`.
pub(super) fn assign(
    manifest: &Manifest,
    before: &[AssignedPort],
    range: RangeInclusive<u16>,
    start: u64,
    taken: &BTreeSet<(Protocol, u16)>,
    is_free: impl Fn(Protocol, u16) -> bool,
) -> Result<Vec<AssignedPort>, Error> {
    let mut taken = taken.clone();
    let mut assigned: Vec<AssignedPort> = Vec::new();
    let mut missing = Vec::new();
    for (service, replica, container_port, protocol) in published(manifest) {
        let known = before.iter().find(|port| {
            port.service == service
                && port.replica == replica
                && port.container_port == container_port
                && port.protocol == protocol
        });
        match known {
            // Two entries with one host port cannot both be right: the second gets another.
            Some(port)
                if !assigned
                    .iter()
                    .any(|other| other.host_port == port.host_port && other.protocol == protocol) =>
            {
                taken.insert((protocol, port.host_port));
                assigned.push(port.clone());
            }
            _ => missing.push((service, replica, container_port, protocol)),
        }
    }

    let (first, last) = (*range.start(), *range.end());
    let size = u64::from(last.saturating_sub(first)) + 1;
    for (service, replica, container_port, protocol) in missing {
        let host_port = (0..size)
            .map(|step| first + u16::try_from((start % size + step) % size).unwrap_or_default())
            .find(|port| !taken.contains(&(protocol, *port)) && is_free(protocol, *port))
            .ok_or(Error::NoFreePort { first, last })?;
        taken.insert((protocol, host_port));
        assigned.push(AssignedPort {
            service: service.to_owned(),
            replica,
            container_port,
            protocol,
            host_port,
        });
    }
    assigned.sort();
    Ok(assigned)
}

/// Whether nobody on this host listens on a port. Docker's own listeners count too.
pub(super) fn is_free(address: IpAddr, protocol: Protocol, port: u16) -> bool {
    let address = SocketAddr::new(address, port);
    match protocol {
        Protocol::Tcp => TcpListener::bind(address).is_ok(),
        Protocol::Udp => UdpSocket::bind(address).is_ok(),
    }
}

/// What is reachable from outside: each replica of a service publishes for itself.
fn published(manifest: &Manifest) -> impl Iterator<Item = (&str, u32, u16, Protocol)> {
    replicas(manifest).flat_map(|(name, service, replica)| {
        service
            .expose
            .iter()
            .filter(|expose| expose.global)
            .map(move |expose| (name, replica, expose.port, expose.protocol))
    })
}
